//! Keeps the memory of all threads together within a bound.

use std::sync::{Condvar, Mutex, PoisonError};

/// Memory that threads share.
#[derive(Debug)]
pub struct Gate {
    total: u64,
    free: Mutex<u64>,
    freed: Condvar,
}

/// Memory that is taken, until it is dropped.
#[derive(Debug)]
pub struct Taken<'g> {
    gate: &'g Gate,
    bytes: u64,
}

impl Gate {
    /// A gate with so many bytes.
    pub const fn new(total: u64) -> Self {
        Self {
            total,
            free: Mutex::new(total),
            freed: Condvar::new(),
        }
    }

    /// Waits until there are so many bytes; what needs more than there ever are runs alone.
    pub fn take(&self, bytes: u64) -> Taken<'_> {
        let bytes = bytes.min(self.total);
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.freed.wait_while(free, |free| *free < bytes);
        *waited.unwrap_or_else(PoisonError::into_inner) -= bytes;
        Taken { gate: self, bytes }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self
            .gate
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner) += self.bytes;
        self.gate.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn no_more_is_taken_than_there_is() {
        let (gate, now, most) = (Gate::new(100), AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for bytes in [30, 60, 1000, 1] {
                        let _taken = gate.take(bytes);
                        let bytes = bytes.min(100);
                        most.fetch_max(
                            now.fetch_add(bytes, Ordering::SeqCst) + bytes,
                            Ordering::SeqCst,
                        );
                        now.fetch_sub(bytes, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(*gate.free.lock().unwrap(), 100);
        assert!((60..=100).contains(&most.into_inner()));
    }
}
