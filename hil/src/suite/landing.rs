//! Where a power cut fell: in the middle of what it was to interrupt, or too late.

use super::execute::UP_WORDS;
use crate::boards::uefi::END;
use crate::stream::Line;
use std::fmt;

/// Longest piece of a line that a title shows, in characters.
const SHOWN_CHARACTERS: usize = 60;

/// Where a cut fell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Landing {
    /// What it was to interrupt had ended already.
    pub late: bool,
    last: Option<Line>,
}

impl Landing {
    /// Judges by what the machine said since the beginning of what the cut was to interrupt: a command has ended with the end of
    /// its answer, a boot when a release is up.
    pub(super) fn of(console: &[Line], control: &[Line]) -> Self {
        let ended = control.iter().any(|line| line.text.starts_with(END))
            || console.iter().any(|line| line.text.contains(UP_WORDS));
        let said = console.iter().chain(control);
        let said = said.filter(|line| !line.is_note() && !line.text.trim().is_empty());
        Self {
            late: ended,
            last: said.max_by_key(|line| line.at).cloned(),
        }
    }
}

impl fmt::Display for Landing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.late {
            "too late"
        } else {
            "in the middle"
        })?;
        match &self.last {
            None => f.write_str(", before anything was said"),
            Some(line) => {
                let text: String = line.text.trim().chars().take(SHOWN_CHARACTERS).collect();
                write!(f, ", behind {text:?}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn line(seconds: u64, text: &str) -> Line {
        Line {
            at: Duration::from_secs(seconds),
            text: text.to_owned(),
            complete: true,
        }
    }

    #[test]
    fn the_last_line_of_both_says_where() {
        let landing = Landing::of(
            &[
                line(1, "~ power on"),
                line(2, "console"),
                line(9, "~ power cut"),
            ],
            &[line(1, "ready"), line(3, " 10 %"), line(4, "")],
        );
        assert!(!landing.late);
        assert_eq!(landing.to_string(), "in the middle, behind \"10 %\"");
        let silent = Landing::of(&[line(1, "~ power on")], &[]);
        assert_eq!(
            silent.to_string(),
            "in the middle, before anything was said"
        );
    }

    #[test]
    fn what_had_ended_was_not_interrupted() {
        assert!(Landing::of(&[], &[line(1, ":end 0")]).late);
        assert!(Landing::of(&[line(1, "light: up, release v2")], &[]).late);
        assert!(!Landing::of(&[line(1, "twinseal: init: set b")], &[line(1, "ready")]).late);
    }
}
