//! The lines of a device description, key by key.

use super::{DescriptionFault, KEYS_MAX, Loader};
use crate::files::OwnPath;
use heapless::Vec;
use twinseal_core::wire::PAYLOADS_MAX_COUNT;
use twinseal_core::wire::text::Name;
use twinseal_platform_linux::Verity;

/// What the keys say; `None` for a key that is not there.
#[derive(Default)]
pub(super) struct Fields<'t> {
    pub compatible: Option<Name>,
    pub state: Option<&'t str>,
    keys: Option<Vec<&'t str, KEYS_MAX>>,
    pub verity: Option<Verity>,
    pub trial_attempts: Option<u8>,
    pub trusts_clock: Option<bool>,
    pub running: Option<&'t str>,
    pub image_only: Option<bool>,
    /// Is for the full agent; here it is only looked at.
    health: Option<&'t str>,
    pub loader: Option<Loader>,
    pub record: Option<&'t str>,
    pub variables: Option<&'t str>,
    has_boot: bool,
    /// Tables for the full agent; here only their form is looked at. Both limit the network.
    pub has_others: [bool; 2],
    pub sets: [PartialSet<'t>; 2],
    pub slots: Vec<Slot<'t>, PAYLOADS_MAX_COUNT>,
}

/// What `[sets.a]` or `[sets.b]` says.
#[derive(Default)]
pub(super) struct PartialSet<'t> {
    pub stands: bool,
    pub boot: Option<&'t str>,
    pub root: Option<&'t str>,
}

/// What `[slots.NAME]` says.
pub(super) struct Slot<'t> {
    pub name: Name,
    /// Where the table stands.
    pub line: u16,
    pub a: Option<&'t str>,
    pub b: Option<&'t str>,
}

/// Keys of tables for the full agent. Another one there is a key of ours that was put into the wrong table.
const BUDGET_KEYS: &[&str] = &["bytes", "period"];
const NETWORK_KEYS: &[&str] = &[
    "trust",
    "certificate",
    "key",
    "proxy",
    "no-proxy",
    "max-rate",
    "window",
];

/// The table that a line belongs to.
#[derive(Clone, Copy)]
enum Table {
    Top,
    Boot,
    Set(usize),
    Slot,
    /// One for the full agent, with its keys.
    Other(&'static [&'static str]),
}

/// A value as it is written.
enum Value<'t> {
    Text(&'t str),
    Number(u64),
    Flag(bool),
    /// What stands between the brackets.
    List(&'t str),
}

impl<'t> Fields<'t> {
    pub(super) fn read(text: &'t str) -> Result<Self, DescriptionFault> {
        let mut fields = Self::default();
        let mut table = Table::Top;
        for (number, line) in (1..=u16::MAX).zip(text.lines()) {
            let form = DescriptionFault::Form { line: number };
            // Control characters are no part of a line; a tab stands between words.
            if line
                .chars()
                .any(|letter| letter.is_control() && letter != '\t')
            {
                return Err(form);
            }
            let line = line.trim_matches([' ', '\t']);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(rest) = line.strip_prefix('[') {
                let (name, rest) = rest.split_once(']').ok_or(form)?;
                ends(rest, number)?;
                table = fields.enter(name, number)?;
                continue;
            }
            let (key, value) = line.split_once('=').ok_or(form)?;
            let value = value_of(value.trim_matches([' ', '\t']), number)?;
            fields.set(table, key.trim_end_matches([' ', '\t']), value, number)?;
        }
        Ok(fields)
    }

    fn enter(&mut self, name: &'t str, line: u16) -> Result<Table, DescriptionFault> {
        let (twice, unknown) = (
            DescriptionFault::Twice { line },
            DescriptionFault::Unknown { line },
        );
        let [a, b] = &mut self.sets;
        let [has_budget, has_network] = &mut self.has_others;
        let (stands, table) = match name {
            "boot" => (&mut self.has_boot, Table::Boot),
            "budget" => (has_budget, Table::Other(BUDGET_KEYS)),
            "network" => (has_network, Table::Other(NETWORK_KEYS)),
            "sets.a" => (&mut a.stands, Table::Set(0)),
            "sets.b" => (&mut b.stands, Table::Set(1)),
            _ => {
                let name = name.strip_prefix("slots.").ok_or(unknown)?;
                // To TOML a dot begins a table within.
                if name.contains('.') {
                    return Err(unknown);
                }
                let name = Name::new(name).ok_or(DescriptionFault::Value { line })?;
                if self.slots.iter().any(|slot| slot.name == name) {
                    return Err(twice);
                }
                let (a, b) = (None, None);
                let slot = Slot { name, line, a, b };
                // A bundle cannot have more payloads either.
                self.slots.push(slot).map_err(|_| unknown)?;
                return Ok(Table::Slot);
            }
        };
        if core::mem::replace(stands, true) {
            return Err(twice);
        }
        Ok(table)
    }

    fn set(
        &mut self,
        table: Table,
        key: &str,
        value: Value<'t>,
        line: u16,
    ) -> Result<(), DescriptionFault> {
        match table {
            Table::Top => self.set_top(key, value, line),
            Table::Boot => match key {
                "loader" => {
                    let loader = match text(value, line)? {
                        "record" => Loader::Record,
                        "uefi" => Loader::Uefi,
                        "systemd-boot" => Loader::SystemdBoot,
                        _ => return Err(DescriptionFault::Value { line }),
                    };
                    once(&mut self.loader, loader, line)
                }
                "record" => once(&mut self.record, text(value, line)?, line),
                "variables" => once(&mut self.variables, text(value, line)?, line),
                _ => Err(DescriptionFault::Unknown { line }),
            },
            Table::Other(keys) if keys.contains(&key) => Ok(()),
            Table::Other(_) => Err(DescriptionFault::Unknown { line }),
            Table::Set(index) => {
                let unknown = DescriptionFault::Unknown { line };
                let set = self.sets.get_mut(index).ok_or(unknown)?;
                match key {
                    "boot" => once(&mut set.boot, text(value, line)?, line),
                    "root" => once(&mut set.root, text(value, line)?, line),
                    _ => Err(unknown),
                }
            }
            Table::Slot => {
                let unknown = DescriptionFault::Unknown { line };
                let slot = self.slots.last_mut().ok_or(unknown)?;
                match key {
                    "a" => once(&mut slot.a, text(value, line)?, line),
                    "b" => once(&mut slot.b, text(value, line)?, line),
                    _ => Err(unknown),
                }
            }
        }
    }

    fn set_top(&mut self, key: &str, value: Value<'t>, line: u16) -> Result<(), DescriptionFault> {
        let wrong = DescriptionFault::Value { line };
        match key {
            "compatible" => {
                let name = Name::new(text(value, line)?).ok_or(wrong)?;
                once(&mut self.compatible, name, line)
            }
            "state" => once(&mut self.state, text(value, line)?, line),
            "running" => once(&mut self.running, text(value, line)?, line),
            "health" => once(&mut self.health, text(value, line)?, line),
            "trusted-keys" => {
                let Value::List(inside) = value else {
                    return Err(wrong);
                };
                once(&mut self.keys, list(inside, line)?, line)
            }
            "verity" => {
                let verity = match text(value, line)? {
                    "required" => Verity::Required,
                    "absent" => Verity::Absent,
                    _ => return Err(wrong),
                };
                once(&mut self.verity, verity, line)
            }
            "clock" => {
                let trusted = match text(value, line)? {
                    "trusted" => true,
                    "none" => false,
                    _ => return Err(wrong),
                };
                once(&mut self.trusts_clock, trusted, line)
            }
            "trial-attempts" => {
                let Value::Number(number) = value else {
                    return Err(wrong);
                };
                let attempts = u8::try_from(number).ok().filter(|number| *number > 0);
                once(&mut self.trial_attempts, attempts.ok_or(wrong)?, line)
            }
            "image-only" => {
                let Value::Flag(flag) = value else {
                    return Err(wrong);
                };
                once(&mut self.image_only, flag, line)
            }
            _ => Err(DescriptionFault::Unknown { line }),
        }
    }

    /// The key files, placed.
    pub(super) fn trusted_keys(
        &self,
        place: &dyn Fn(&str) -> Result<OwnPath, DescriptionFault>,
    ) -> Result<Option<Vec<OwnPath, KEYS_MAX>>, DescriptionFault> {
        let Some(keys) = &self.keys else {
            return Ok(None);
        };
        keys.iter()
            .map(|key| place(key))
            .collect::<Result<_, _>>()
            .map(Some)
    }
}

fn once<T>(field: &mut Option<T>, value: T, line: u16) -> Result<(), DescriptionFault> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(DescriptionFault::Twice { line }),
    }
}

fn text(value: Value<'_>, line: u16) -> Result<&str, DescriptionFault> {
    match value {
        Value::Text(text) => Ok(text),
        _ => Err(DescriptionFault::Value { line }),
    }
}

/// The value that a line ends with.
fn value_of(value: &str, line: u16) -> Result<Value<'_>, DescriptionFault> {
    let form = DescriptionFault::Form { line };
    if let Some(rest) = value.strip_prefix('"') {
        let (text, rest) = string(rest, line)?;
        ends(rest, line)?;
        return Ok(Value::Text(text));
    }
    if let Some(rest) = value.strip_prefix('[') {
        // A bracket in a path would end the list too early, and what is left is refused.
        let (inside, rest) = rest.split_once(']').ok_or(form)?;
        ends(rest, line)?;
        return Ok(Value::List(inside));
    }
    let end = value.find([' ', '\t', '#']).unwrap_or(value.len());
    let (word, rest) = value.split_at_checked(end).ok_or(form)?;
    ends(rest, line)?;
    match word {
        "true" => Ok(Value::Flag(true)),
        "false" => Ok(Value::Flag(false)),
        // TOML knows no number with a zero before it.
        _ if word.starts_with('0') && word.len() > 1 => Err(form),
        _ if word.bytes().all(|digit| digit.is_ascii_digit()) => {
            word.parse().map(Value::Number).map_err(|_| form)
        }
        _ => Err(form),
    }
}

/// A string behind its opening quote, and what follows its end.
fn string(rest: &str, line: u16) -> Result<(&str, &str), DescriptionFault> {
    let (text, rest) = rest
        .split_once('"')
        .ok_or(DescriptionFault::Form { line })?;
    if text.contains('\\') || (text.is_empty() && rest.starts_with('"')) {
        return Err(DescriptionFault::Form { line });
    }
    Ok((text, rest))
}

/// Strings between commas; the last one may have a comma behind it.
fn list(inside: &str, line: u16) -> Result<Vec<&str, KEYS_MAX>, DescriptionFault> {
    let form = DescriptionFault::Form { line };
    let mut texts = Vec::new();
    let mut rest = inside.trim_matches([' ', '\t']);
    while !rest.is_empty() {
        let (text, after) = string(rest.strip_prefix('"').ok_or(form)?, line)?;
        texts
            .push(text)
            .map_err(|_| DescriptionFault::Value { line })?;
        let after = after.trim_start_matches([' ', '\t']);
        rest = match after.strip_prefix(',') {
            Some(after) => after.trim_start_matches([' ', '\t']),
            None if after.is_empty() => after,
            None => return Err(form),
        };
    }
    Ok(texts)
}

/// Nothing but a comment may follow.
fn ends(rest: &str, line: u16) -> Result<(), DescriptionFault> {
    let rest = rest.trim_start_matches([' ', '\t']);
    if rest.is_empty() || rest.starts_with('#') {
        Ok(())
    } else {
        Err(DescriptionFault::Form { line })
    }
}
