//! The firmware of a microcontroller (`hil/firmware`): so far its logs.

pub mod frames;
