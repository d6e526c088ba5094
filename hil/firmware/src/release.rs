//! Which release a program is: a block in it that the maker of the releases fills in.
//!
//! The releases of a test are one program with different blocks, so that they differ in what they do and in nothing else.

/// What the block begins with, for the maker to find it.
const MAGIC: [u8; 16] = *b"TWINSEAL RELEASE";

/// The block: magic, name (UTF-8, zeros behind it), behaviour.
#[repr(C)]
pub struct Release {
    magic: [u8; 16],
    name: [u8; 15],
    behaviour: u8,
}

/// What a release does when it starts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// It works.
    Works,
    /// It stops before its health check, and feeds no watchdog.
    Hangs,
    /// Its health check fails.
    IsSick,
    /// It panics.
    Panics,
}

#[used]
static RELEASE: Release = Release {
    magic: MAGIC,
    name: *b"unnamed\0\0\0\0\0\0\0\0",
    behaviour: b'w',
};

/// This program's release.
pub fn own() -> &'static Release {
    // The maker changes the block after the compiler has seen it.
    core::hint::black_box(&RELEASE)
}

impl Release {
    /// Its name.
    pub fn name(&self) -> &str {
        let end = self
            .name
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(self.name.len());
        self.name
            .get(..end)
            .and_then(|name| core::str::from_utf8(name).ok())
            .unwrap_or("?")
    }

    /// What it does.
    pub fn behaviour(&self) -> Behaviour {
        match self.behaviour {
            b'h' => Behaviour::Hangs,
            b's' => Behaviour::IsSick,
            b'p' => Behaviour::Panics,
            _ => Behaviour::Works,
        }
    }
}
