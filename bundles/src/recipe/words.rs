//! The words of a command line that `/init` reads, asked of what reads them there: a word that it does not understand would first be
//! missed on a device that nobody can reach.

use super::RecipeError;
use twinseal_minimal::command_line::CommandLine;
use twinseal_minimal::net::{Setting, Url};

/// Words of ours begin so.
const OURS: &str = "twinseal.";

/// Refuses a word of ours that is not known, or that has a value which `/init` does not take.
pub(super) fn check(cmdline: &str) -> Result<(), RecipeError> {
    for word in cmdline
        .split_ascii_whitespace()
        .filter(|word| word.starts_with(OURS))
    {
        let must_be = match word.split_once('=') {
            Some(("twinseal.recover.url", url)) => Url::parse(url)
                .is_none()
                .then_some("http://SERVER[:PORT]/PATH, without quotes"),
            Some(("twinseal.recover.ip", address)) => Setting::parse(address)
                .is_none()
                .then_some("`dhcp` or ADDRESS/PREFIX[,GATEWAY[,NAME-SERVER]]"),
            Some(("twinseal.watchdog" | "twinseal.starts", number)) => number
                .parse::<u32>()
                .is_err()
                .then_some("a whole number; 0 is off"),
            None if CommandLine::parse(word.as_bytes()).recover => None,
            _ => Some(
                "one of twinseal.recover, twinseal.recover.url=, twinseal.recover.ip=, twinseal.watchdog= and twinseal.starts=",
            ),
        };
        if let Some(must_be) = must_be {
            let word = word.to_owned();
            return Err(RecipeError::Word { word, must_be });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_init_takes_are_taken() {
        let all = "quiet twinseal.recover twinseal.recover.url=http://updates.example:8080/a/b.tseal?c=d \
                   twinseal.recover.ip=10.0.0.2/24,10.0.0.1 twinseal.watchdog=0 twinseal.starts=5 init=/sbin/init";
        check(all).unwrap();
        check("twinseal.recover.ip=dhcp").unwrap();
        check("").unwrap();
    }

    #[test]
    fn a_word_that_a_device_would_not_understand_is_named() {
        for word in [
            "twinseal.recover.url=https://a/b",
            "twinseal.recover.url=\"http://a/b\"",
            "twinseal.recover.url=http://user@a/b",
            "twinseal.recover.ip=10.0.0.2",
            "twinseal.watchdog=1m",
            "twinseal.starts=-1",
            "twinseal.start=5",
            "twinseal.recover=1",
            "twinseal.starts",
        ] {
            let error = check(&format!("quiet {word} x=y")).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
