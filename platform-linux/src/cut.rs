//! Tests of power cuts in what other programs read (a firmware's variables, names of UKIs): the power goes before the n-th change.
//!
//! Only tests have this: a device's program changes what it is asked to.

use rustix::io::Errno;
use std::cell::Cell;
use std::thread_local;

thread_local! {
    /// Changes until the power goes; `None` when it stays.
    static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Asked before each change. When the power is gone nothing is changed any more.
pub(crate) fn before_change() -> Result<(), Errno> {
    LEFT.with(|left| match left.get() {
        Some(0) => Err(Errno::IO),
        Some(more) => {
            left.set(Some(more - 1));
            Ok(())
        }
        None => Ok(()),
    })
}

/// Does `work` with power for so many changes; the power is back afterwards.
pub(crate) fn after<T>(changes: u32, work: impl FnOnce() -> T) -> T {
    LEFT.set(Some(changes));
    let result = work();
    LEFT.set(None);
    result
}
