//! The files that a program is started with.

use crate::sys;
use rustix::fd::BorrowedFd;

/// Where it reads from.
pub const fn input() -> BorrowedFd<'static> {
    sys::standard(0)
}

/// Where its answers go.
pub const fn output() -> BorrowedFd<'static> {
    sys::standard(1)
}

/// Where its errors go.
pub const fn error() -> BorrowedFd<'static> {
    sys::standard(2)
}
