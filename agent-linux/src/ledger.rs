//! What the network has cost so far: for each bundle, and in the present calendar period.
//!
//! ```text
//! byte 0: copy 0 | byte 4096: copy 1 | to 8192
//! copy: SHA-256 of what follows (32) | length (u16, little-endian) | JSON
//! ```
//!
//! # Invariants
//! - Bytes are written here before they are spent: what it says is never less than what was spent.
//! - A bundle is known by the SHA-256 of its manifest, and by its address until somebody has read that. Bytes that were spent on finding
//!   out are moved to the manifest's account.
//! - Time that goes back begins no new period.
//!
//! # Power loss
//! The copy that is not the newest is written, and synced: a cut leaves the state before or the state after. A ledger of which neither
//! copy can be read is damaged; it is no empty one.

use crate::clock;
use crate::config::{Budget, Period};
use crate::error::AgentError;
use crate::keys::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Room of a copy: the largest unit that a medium or the page cache writes in one piece.
const COPY_BYTES: usize = 4096;

/// Digest and length before the text.
const HEAD_BYTES: usize = 34;

/// Accounts that are kept, the last used first: so many take less than half a copy.
const BUNDLES_MAX_COUNT: usize = 8;

/// The ledger, open.
#[derive(Debug)]
pub struct Ledger {
    file: File,
    path: PathBuf,
    /// Whether one of the copies could be read, or nothing was ever written.
    is_sound: bool,
    state: State,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    sequence: u64,
    period: Option<PeriodAccount>,
    bundles: Vec<BundleAccount>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PeriodAccount {
    kind: Period,
    /// Its number, counted from 1970.
    number: u64,
    bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct BundleAccount {
    /// SHA-256 of the address at which it was last.
    address: String,
    /// SHA-256 of the manifest, once it is known.
    manifest: Option<String>,
    bytes: u64,
}

impl Ledger {
    /// Opens the ledger, or makes it. One that is damaged can be opened, too.
    ///
    /// # Errors
    /// When it can be neither read nor made.
    pub fn open(path: &Path) -> Result<Self, AgentError> {
        let failed = |error| failed(path, "opened", error);
        let made = !path.exists();
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        if made {
            file.set_len(2 * COPY_BYTES as u64).map_err(failed)?;
            file.sync_all().map_err(failed)?;
            if let Some(folder) = path.parent() {
                File::open(folder)
                    .and_then(|folder| folder.sync_all())
                    .map_err(failed)?;
            }
        }
        let mut content = [0; 2 * COPY_BYTES];
        let length = read_some(&file, &mut content).map_err(failed)?;
        let content = content.get(..length).unwrap_or(&[]);
        let newest = content
            .chunks(COPY_BYTES)
            .filter_map(parse)
            .max_by_key(|state| state.sequence);
        let is_blank = content.iter().all(|byte| *byte == 0);
        Ok(Self {
            file,
            path: path.to_owned(),
            is_sound: newest.is_some() || is_blank,
            state: newest.unwrap_or_default(),
        })
    }

    /// Whether what it says can be relied on.
    pub const fn is_sound(&self) -> bool {
        self.is_sound
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Enters the period that `time` lies in, and gives what it has cost so far. Without a time, or when the time lies before it,
    /// the period that was entered last goes on.
    pub fn enter_period(&mut self, budget: Budget, time: Option<u64>) -> u64 {
        let now = number(budget.period, time.unwrap_or(0));
        let same = self
            .state
            .period
            .as_ref()
            .filter(|period| period.kind == budget.period && period.number >= now);
        if let Some(period) = same {
            return period.bytes;
        }
        self.state.period = Some(PeriodAccount {
            kind: budget.period,
            number: now,
            bytes: 0,
        });
        0
    }

    /// Turns to the account of the bundle that was last at an address, and gives what it has cost so far.
    pub fn enter_address(&mut self, address: &str) -> u64 {
        let address = hex(&Sha256::digest(address));
        let found = self
            .state
            .bundles
            .iter()
            .position(|account| account.address == address);
        let account = match found {
            Some(place) => self.state.bundles.remove(place),
            None => BundleAccount {
                address,
                manifest: None,
                bytes: 0,
            },
        };
        let bytes = account.bytes;
        self.put_first(account);
        bytes
    }

    /// Turns to the account of a manifest, which is what the present account's address has; `run_bytes` have been spent in this run
    /// and go with it. Gives what the bundle had cost before.
    pub fn enter_manifest(&mut self, sha256: &[u8], run_bytes: u64) -> u64 {
        let manifest = hex(sha256);
        let bundles = &mut self.state.bundles;
        let Some(present) = bundles.first_mut() else {
            return 0;
        };
        present.bytes = present.bytes.saturating_sub(run_bytes);
        if present.manifest.as_ref() == Some(&manifest) {
            let before = present.bytes;
            present.bytes = before.saturating_add(run_bytes);
            return before;
        }
        let address = std::mem::take(&mut present.address);
        let mut before = 0u64;
        let belongs = |account: &BundleAccount| match &account.manifest {
            None => account.address.is_empty(),
            Some(known) => *known == manifest,
        };
        bundles.retain(|account| {
            if belongs(account) {
                before = before.saturating_add(account.bytes);
            }
            !belongs(account)
        });
        self.put_first(BundleAccount {
            address,
            manifest: Some(manifest),
            bytes: before.saturating_add(run_bytes),
        });
        before
    }

    /// Stores what the present bundle and the period have cost; `bundle_bytes` is `None` where a run is not counted for a bundle.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn store(
        &mut self,
        bundle_bytes: Option<u64>,
        period_bytes: Option<u64>,
    ) -> Result<(), AgentError> {
        if let (Some(account), Some(bytes)) = (self.state.bundles.first_mut(), bundle_bytes) {
            account.bytes = bytes;
        }
        if let (Some(period), Some(bytes)) = (&mut self.state.period, period_bytes) {
            period.bytes = bytes;
        }
        self.state.sequence += 1;
        let written = || -> io::Result<()> {
            let copy = emit(&self.state)?;
            let offset = self.state.sequence % 2 * COPY_BYTES as u64;
            self.file.write_all_at(&copy, offset)?;
            self.file.sync_data()
        };
        written().map_err(|error| failed(&self.path, "written", error))
    }

    fn put_first(&mut self, account: BundleAccount) {
        self.state.bundles.insert(0, account);
        self.state.bundles.truncate(BUNDLES_MAX_COUNT);
    }
}

/// The number of a period, from 1970 on, in UTC; weeks begin on Mondays.
fn number(period: Period, time: u64) -> u64 {
    match period {
        Period::Day => clock::day(time),
        // The first day was a Thursday.
        Period::Week => (clock::day(time) + 3) / 7,
        Period::Month => clock::month(time),
    }
}

fn failed(path: &Path, done: &'static str, error: io::Error) -> AgentError {
    AgentError::File {
        file: path.to_owned(),
        done,
        error,
    }
}

fn read_some(file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, done as u64)? {
            0 => break,
            taken => done += taken,
        }
    }
    Ok(done)
}

fn parse(copy: &[u8]) -> Option<State> {
    let (digest, rest) = copy.split_at_checked(32)?;
    let (length, text) = rest.split_at_checked(2)?;
    let bytes = usize::from(u16::from_le_bytes(length.try_into().ok()?));
    let text = text.get(..bytes).filter(|text| !text.is_empty())?;
    let hashed = rest.get(..bytes + 2)?;
    (Sha256::digest(hashed).as_slice() == digest)
        .then(|| serde_json::from_slice(text).ok())
        .flatten()
}

fn emit(state: &State) -> io::Result<Vec<u8>> {
    let text = serde_json::to_vec(state)?;
    let length = u16::try_from(text.len())
        .ok()
        .filter(|length| usize::from(*length) <= COPY_BYTES - HEAD_BYTES)
        .ok_or(io::ErrorKind::FileTooLarge)?;
    let mut rest = length.to_le_bytes().to_vec();
    rest.extend_from_slice(&text);
    let mut copy = Sha256::digest(&rest).to_vec();
    copy.extend_from_slice(&rest);
    copy.resize(COPY_BYTES, 0);
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MONTH: Budget = Budget {
        bytes: 100,
        period: Period::Month,
    };

    fn ledger() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        (folder, path)
    }

    #[test]
    fn what_a_bundle_cost_is_found_again_by_its_address_and_by_its_manifest() {
        let (_folder, path) = ledger();
        let mut ledger = Ledger::open(&path).unwrap();
        assert_eq!(ledger.enter_address("http://one"), 0);
        ledger.store(Some(70), None).unwrap();
        // 70 bytes of an earlier run, and 30 of this one, were spent to read the manifest.
        let mut ledger = Ledger::open(&path).unwrap();
        assert_eq!(ledger.enter_address("http://one"), 70);
        ledger.store(Some(100), None).unwrap();
        assert_eq!(ledger.enter_manifest(&[1; 32], 30), 70);
        ledger.store(Some(500), None).unwrap();
        let mut ledger = Ledger::open(&path).unwrap();
        assert_eq!(ledger.enter_address("http://mirror"), 0);
        assert_eq!(ledger.enter_manifest(&[1; 32], 0), 500);
        assert_eq!(ledger.enter_manifest(&[1; 32], 0), 500, "no second time");
        ledger.store(Some(500), None).unwrap();
        let mut ledger = Ledger::open(&path).unwrap();
        assert_eq!(ledger.enter_address("http://mirror"), 500);
        assert_eq!(
            ledger.enter_address("http://one"),
            0,
            "it was last elsewhere"
        );
    }

    #[test]
    fn another_release_at_the_address_has_an_account_of_its_own() {
        let (_folder, path) = ledger();
        let mut ledger = Ledger::open(&path).unwrap();
        ledger.enter_address("http://one");
        ledger.enter_manifest(&[1; 32], 0);
        ledger.store(Some(900), None).unwrap();
        assert_eq!(ledger.enter_address("http://one"), 900);
        ledger.store(Some(905), None).unwrap();
        assert_eq!(ledger.enter_manifest(&[2; 32], 5), 0);
        assert_eq!(ledger.enter_address("http://one"), 5);
        assert_eq!(
            ledger.enter_manifest(&[1; 32], 0),
            900,
            "the old one is back"
        );
    }

    #[test]
    fn a_period_ends_with_the_calendar_and_never_because_time_goes_back() {
        let (_folder, path) = ledger();
        let mut ledger = Ledger::open(&path).unwrap();
        // 2026-01-31 and 2026-02-01, by `date -u -d 2026-02-01 +%s`.
        let (january, february) = (1_769_903_999, 1_769_904_000);
        assert_eq!(ledger.enter_period(MONTH, Some(january)), 0);
        ledger.store(None, Some(60)).unwrap();
        let mut ledger = Ledger::open(&path).unwrap();
        assert_eq!(ledger.enter_period(MONTH, Some(january)), 60);
        assert_eq!(ledger.enter_period(MONTH, None), 60, "no clock");
        assert_eq!(ledger.enter_period(MONTH, Some(february)), 0);
        ledger.store(None, Some(7)).unwrap();
        assert_eq!(ledger.enter_period(MONTH, Some(january)), 7);
        // 2026-11-29 is a Sunday.
        let sunday = 1_795_996_799;
        assert_eq!(
            number(Period::Week, sunday) + 1,
            number(Period::Week, sunday + 1)
        );
        assert_eq!(
            number(Period::Day, sunday) + 1,
            number(Period::Day, sunday + 1)
        );
    }

    #[test]
    fn a_cut_at_any_byte_of_a_write_leaves_the_state_before_or_after() {
        let (_folder, path) = ledger();
        let mut ledger = Ledger::open(&path).unwrap();
        ledger.enter_address("http://one");
        ledger.store(Some(10), None).unwrap();
        ledger.store(Some(20), None).unwrap();
        let before = std::fs::read(&path).unwrap();
        ledger.store(Some(30), None).unwrap();
        let after = std::fs::read(&path).unwrap();
        let mut cuts = 0;
        for cut in 0..after.len() {
            if before.get(cut) == after.get(cut) {
                continue;
            }
            let torn = [&after[..cut], &before[cut..]].concat();
            std::fs::write(&path, torn).unwrap();
            let mut found = Ledger::open(&path).unwrap();
            assert!(found.is_sound());
            assert_eq!(found.enter_address("http://one"), 20, "cut at {cut}");
            cuts += 1;
        }
        println!("{cuts} cuts");
        assert!(cuts > 30);
    }

    #[test]
    fn a_ledger_that_cannot_be_read_is_no_empty_one() {
        let (_folder, path) = ledger();
        Ledger::open(&path).unwrap();
        assert!(Ledger::open(&path).unwrap().is_sound(), "new");
        std::fs::write(&path, [7; 8192]).unwrap();
        assert!(!Ledger::open(&path).unwrap().is_sound());
    }

    #[test]
    fn as_many_accounts_as_are_kept_fit_a_copy() {
        let (_folder, path) = ledger();
        let mut ledger = Ledger::open(&path).unwrap();
        ledger.enter_period(MONTH, Some(u64::MAX));
        for bundle in 0..20 {
            ledger.enter_address(&format!("http://{bundle}"));
            ledger.enter_manifest(&[bundle; 32], 0);
            ledger.store(Some(u64::MAX), Some(u64::MAX)).unwrap();
        }
        assert_eq!(ledger.enter_address("http://19"), u64::MAX);
        assert_eq!(ledger.enter_address("http://1"), 0, "forgotten");
    }
}
