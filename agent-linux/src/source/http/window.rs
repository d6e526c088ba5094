//! How much is asked for at once.

use std::time::Duration;

/// Window of a link that costs: what is on its way is lost when the agent is killed, and with the front matter, which is read
/// again then, it stays below 64 KiB, what a link of 64 kbit/s carries in eight seconds.
pub(super) const WINDOW_BYTES: u64 = 48 * 1024;

/// Largest window, where nobody counts bytes, nothing has gone wrong, and each window takes less than [`WINDOW_TIME`]: on a link that is
/// fast and far away most of the time of a small one is waiting for its first byte.
const WINDOW_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// A link that takes longer for a window is slow: what is lost with one counts there. One that takes half as long gets no larger ones.
const WINDOW_TIME: Duration = Duration::from_secs(1);

/// How much the next request asks for at most.
pub(super) struct Window {
    bytes: u64,
    max_bytes: u64,
}

impl Window {
    /// The first one of a link; it grows where bytes do not count.
    pub const fn new(is_metered: bool) -> Self {
        Self {
            bytes: WINDOW_BYTES,
            max_bytes: if is_metered {
                WINDOW_BYTES
            } else {
                WINDOW_MAX_BYTES
            },
        }
    }

    /// What of `wanted_bytes` is asked for now; the last one took so long from its first byte.
    pub fn of(&mut self, wanted_bytes: u64, took: Duration) -> u64 {
        if took >= WINDOW_TIME {
            self.bytes = WINDOW_BYTES;
        }
        let window_bytes = wanted_bytes.min(self.bytes);
        if window_bytes < wanted_bytes && took < WINDOW_TIME / 2 {
            self.bytes = (self.bytes * 2).min(self.max_bytes);
        }
        window_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MUCH: u64 = 1 << 30;
    const FAST: Duration = Duration::from_millis(100);

    #[test]
    fn a_window_doubles_as_long_as_the_link_is_fast() {
        let mut window = Window::new(false);
        let asked: Vec<_> = (0..9).map(|_| window.of(MUCH, FAST) / 1024).collect();
        assert_eq!(asked, [48, 96, 192, 384, 768, 1536, 3072, 4096, 4096]);
        assert_eq!(window.of(1_000, FAST), 1_000);
        let mut steady = Window::new(false);
        steady.of(MUCH, FAST);
        for _ in 0..3 {
            assert_eq!(steady.of(MUCH, WINDOW_TIME * 3 / 4), 2 * WINDOW_BYTES);
        }
        assert_eq!(steady.of(MUCH, WINDOW_TIME), WINDOW_BYTES);
    }

    #[test]
    fn it_stays_small_where_bytes_count_and_when_less_is_wanted() {
        let mut metered = Window::new(true);
        let mut little = Window::new(false);
        for _ in 0..5 {
            assert_eq!(metered.of(MUCH, FAST), WINDOW_BYTES);
            assert_eq!(little.of(WINDOW_BYTES, FAST), WINDOW_BYTES);
        }
    }
}
