//! How fast the body of an answer comes.

use core::time::Duration;

/// How fast the body of an answer comes, over the time that was waited for it: what core and the disk take is not the server's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// Counts what came in a wait; `false` when that is too little over too long a time.
    pub fn holds(&mut self, waited: Duration, bytes: usize, period: Duration, least: u64) -> bool {
        self.waited = self.waited.saturating_add(waited);
        self.bytes = self.bytes.saturating_add(bytes as u64);
        if self.waited < period {
            return true;
        }
        let holds = self.bytes >= least;
        *self = Self::default();
        holds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_counts_the_time_that_was_waited() {
        let (period, least) = (Duration::from_secs(10), 1000);
        let mut pace = Pace::default();
        for _ in 0..100 {
            assert!(
                pace.holds(Duration::ZERO, 1, period, least),
                "nothing was waited"
            );
        }
        assert!(pace.holds(Duration::from_secs(9), 1, period, least));
        assert!(
            !pace.holds(Duration::from_secs(1), 1, period, least),
            "102 bytes in 10 s"
        );
        assert!(
            pace.holds(Duration::from_secs(20), 1000, period, least),
            "it starts anew"
        );
    }
}
