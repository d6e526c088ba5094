//! What a link does next: decided from its shape, its seed and what has gone over it so far, without a socket or a clock.
//!
//! # Invariants
//! - The same shape, seed and order of calls give the same answers, whatever the sizes in which bytes are given.

use super::shape::{Ending, Lie, Place, Shape, Status};
use crate::power::Moments;
use std::time::Duration;

/// Which part of an answer bytes are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Head,
    Body,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The server is asked.
    Asked {
        /// With its range.
        ranges: bool,
        /// For another file.
        instead: Option<String>,
    },
    /// The link answers.
    Refused(Status),
    /// The link answers as a server that means harm.
    Lied(Lie),
}

/// What stops bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The connection ends.
    Cut(Ending),
    /// Nothing comes for so long, or until the client gives up.
    Stall(Option<Duration>),
}

/// How many of the bytes go out, how many of these were changed, and what comes then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Passage {
    pub bytes: usize,
    pub corrupted: u64,
    pub then: Option<Trouble>,
}

/// A link's plan, and how far it has come.
#[derive(Clone, Debug)]
pub(super) struct Script {
    shape: Shape,
    numbers: Moments,
    passed_bytes: u64,
    /// Bytes that might have been changed.
    exposed_bytes: u64,
    /// The one of them that is changed next.
    next_flip: u64,
    cuts: u32,
    flips: u32,
    stalled: bool,
    requests: u32,
    refused: u32,
    replaced: u32,
    dropped: u32,
}

impl Script {
    pub(super) fn new(shape: Shape, seed: u64) -> Self {
        let mut script = Self {
            shape,
            numbers: Moments::new(seed, "link"),
            passed_bytes: 0,
            exposed_bytes: 0,
            next_flip: 0,
            cuts: 0,
            flips: 0,
            stalled: false,
            requests: 0,
            refused: 0,
            replaced: 0,
            dropped: 0,
        };
        script.next_flip = script.gap();
        script
    }

    /// Bytes to the next one that is changed: from none to twice the mean.
    fn gap(&mut self) -> u64 {
        self.shape.corrupt.map_or(0, |corrupt| {
            let mean = corrupt.mean_bytes.get();
            self.numbers.up_to(mean.saturating_mul(2).saturating_sub(2))
        })
    }

    /// Whether a new connection is served.
    pub(super) fn connection(&mut self) -> bool {
        let Some(drop) = self.shape.drop else {
            return true;
        };
        let chosen = self.numbers.up_to(u64::from(drop.one_in.get()) - 1) == 0;
        let left = drop.times.is_none_or(|times| self.dropped < times.get());
        if chosen && left {
            self.dropped += 1;
        }
        !(chosen && left)
    }

    /// What becomes of a request.
    pub(super) fn request(&mut self) -> Fate {
        let place = usize::try_from(self.requests).unwrap_or(usize::MAX);
        self.requests += 1;
        if let Some(lie) = self.shape.lies.get(place) {
            return Fate::Lied(*lie);
        }
        if let Some(refuse) = self.shape.refuse
            && self.requests > refuse.after_requests
            && self.refused < refuse.times.get()
        {
            self.refused += 1;
            return Fate::Refused(refuse.status);
        }
        let replace = self.shape.replace.as_ref();
        let instead = replace.filter(|replace| {
            let left = replace
                .requests
                .is_none_or(|requests| self.replaced < requests.get());
            left && self.passed_bytes >= replace.after_bytes
        });
        self.replaced += u32::from(instead.is_some());
        Fate::Asked {
            ranges: !self.shape.no_ranges,
            instead: instead.map(|replace| replace.by.clone()),
        }
    }

    /// Takes bytes for the client, changes some, and says how many go out before what.
    pub(super) fn pass(&mut self, bytes: &mut [u8], part: Part) -> Passage {
        let (length, then) = self.room(bytes.len() as u64);
        let length = usize::try_from(length).unwrap_or(bytes.len());
        let corrupted = bytes
            .get_mut(..length)
            .map_or(0, |passing| self.corrupt(passing, part));
        self.passed_bytes += length as u64;
        match then {
            Some(Trouble::Cut(_)) => self.cuts += 1,
            Some(Trouble::Stall(_)) => self.stalled = true,
            None => {}
        }
        Passage {
            bytes: length,
            corrupted,
            then,
        }
    }

    /// How many of `wanted` bytes go out before the next trouble.
    fn room(&self, wanted: u64) -> (u64, Option<Trouble>) {
        let cut = self
            .shape
            .cut
            .filter(|cut| cut.times.is_none_or(|times| self.cuts < times.get()));
        let cut = cut.map(|cut| {
            let every = cut.every_bytes.get();
            (every - self.passed_bytes % every, Trouble::Cut(cut.by))
        });
        let stall = self.shape.stall.filter(|_| !self.stalled).map(|stall| {
            let left = stall.after_bytes.get().saturating_sub(self.passed_bytes);
            let silence = stall.for_ms.map(|ms| Duration::from_millis(ms.get()));
            (left, Trouble::Stall(silence))
        });
        let next = cut.into_iter().chain(stall).min_by_key(|(left, _)| *left);
        match next {
            Some((left, trouble)) if left <= wanted => (left, Some(trouble)),
            _ => (wanted, None),
        }
    }

    fn corrupt(&mut self, bytes: &mut [u8], part: Part) -> u64 {
        let Some(corrupt) = self.shape.corrupt else {
            return 0;
        };
        if part == Part::Head && corrupt.place == Place::Bodies {
            return 0;
        }
        let mut corrupted = 0;
        let begin = self.exposed_bytes;
        self.exposed_bytes += bytes.len() as u64;
        while self.next_flip < self.exposed_bytes
            && corrupt.times.is_none_or(|times| self.flips < times.get())
        {
            let place = usize::try_from(self.next_flip - begin).ok();
            let mask = u8::try_from(self.numbers.up_to(254) + 1).unwrap_or(u8::MAX);
            if let Some(byte) = place.and_then(|place| bytes.get_mut(place)) {
                *byte ^= mask;
                corrupted += 1;
            }
            self.flips += 1;
            self.next_flip += 1 + self.gap();
        }
        corrupted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(text: &str) -> Script {
        Script::new(toml::from_str(text).unwrap(), 7)
    }

    /// Passes zeros in pieces of this size; what came out, and after how many bytes what happened.
    fn passed(
        script: &mut Script,
        total: usize,
        piece: usize,
        part: Part,
    ) -> (Vec<u8>, Vec<(usize, Trouble)>) {
        let (mut out, mut troubles) = (Vec::new(), Vec::new());
        while out.len() < total {
            let mut bytes = vec![0; piece.min(total - out.len())];
            let passage = script.pass(&mut bytes, part);
            out.extend_from_slice(&bytes[..passage.bytes]);
            troubles.extend(passage.then.map(|trouble| (out.len(), trouble)));
        }
        (out, troubles)
    }

    #[test]
    fn cuts_come_every_so_many_bytes_of_the_whole_run() {
        let close = Trouble::Cut(Ending::Close);
        for piece in [1, 7, 300, 10_000] {
            let mut script = script("cut = { every-bytes = 300 }");
            let (_, troubles) = passed(&mut script, 1_000, piece, Part::Head);
            assert_eq!(troubles, [(300, close), (600, close), (900, close)]);
        }
        let mut script = script("cut = { every-bytes = 300, times = 2, by = \"reset\" }");
        let (_, troubles) = passed(&mut script, 5_000, 4_096, Part::Body);
        let reset = Trouble::Cut(Ending::Reset);
        assert_eq!(troubles, [(300, reset), (600, reset)]);
    }

    #[test]
    fn a_stall_comes_once_also_beside_cuts() {
        let mut script =
            script("cut = { every-bytes = 300 }\nstall = { after-bytes = 450, for-ms = 20 }");
        let (_, troubles) = passed(&mut script, 700, 64, Part::Body);
        let silence = Some(Duration::from_millis(20));
        assert_eq!(
            troubles,
            [
                (300, Trouble::Cut(Ending::Close)),
                (450, Trouble::Stall(silence)),
                (600, Trouble::Cut(Ending::Close))
            ]
        );
    }

    #[test]
    fn the_same_seed_changes_the_same_bytes_whatever_the_pieces() {
        let changed = |seed: u64, piece: usize| {
            let shape = toml::from_str("corrupt = { mean-bytes = 1000 }").unwrap();
            passed(&mut Script::new(shape, seed), 100_000, piece, Part::Body).0
        };
        let first = changed(1, 100_000);
        assert_eq!(first, changed(1, 1_000));
        assert_eq!(first, changed(1, 999));
        assert_ne!(first, changed(2, 999));
        let flips = first.iter().filter(|byte| **byte != 0).count();
        assert!((60..160).contains(&flips), "{flips} of about 100");
    }

    #[test]
    fn heads_are_changed_only_when_that_is_asked_for() {
        let flips = |text: &str, part: Part| {
            let (bytes, _) = passed(&mut script(text), 10_000, 512, part);
            bytes.iter().filter(|byte| **byte != 0).count()
        };
        assert_eq!(flips("corrupt = { mean-bytes = 10 }", Part::Head), 0);
        let three = "corrupt = { mean-bytes = 10, times = 3, in = \"anywhere\" }";
        assert_eq!(flips(three, Part::Head), 3);
    }

    #[test]
    fn requests_are_refused_for_a_while_and_then_asked() {
        let mut script = script("refuse = { status = 503, times = 2, after-requests = 1 }");
        let asked = Fate::Asked {
            ranges: true,
            instead: None,
        };
        let refused = Fate::Refused(Status::ServiceUnavailable);
        let fates: Vec<_> = (0..4).map(|_| script.request()).collect();
        assert_eq!(fates, [asked.clone(), refused.clone(), refused, asked]);
    }

    #[test]
    fn a_file_is_replaced_for_requests_that_come_later() {
        let mut script = script("no-ranges = true\nreplace = { after-bytes = 10, by = \"other\" }");
        let asked = |instead: Option<&str>| Fate::Asked {
            ranges: false,
            instead: instead.map(str::to_owned),
        };
        assert_eq!(script.request(), asked(None));
        script.pass(&mut [0; 10], Part::Body);
        assert_eq!(script.request(), asked(Some("other")));
    }

    #[test]
    fn connections_are_dropped_by_chance_and_not_too_often() {
        let served = |text: &str| {
            let mut script = script(text);
            (0..200).filter(|_| script.connection()).count()
        };
        assert_eq!(served(""), 200);
        assert_eq!(served("drop = { one-in = 1 }"), 0);
        assert_eq!(served("drop = { one-in = 1, times = 3 }"), 197);
        let half = served("drop = { one-in = 2 }");
        assert!((60..140).contains(&half), "{half}");
    }
}
