//! The stack's time is this program's.

pub use crate::clock::Moment;

#[cfg(feature = "net")]
impl From<Moment> for smoltcp::time::Instant {
    fn from(moment: Moment) -> Self {
        let micros = moment.since_start().as_micros();
        Self::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }
}
