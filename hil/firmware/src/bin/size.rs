//! Core's verify path and nothing else: what it costs in code, RAM and stack. `scripts/mcu.sh` measures it.
//!
//! It proves a whole bundle's front matter: tar headers, Ed25519 over the manifest, postcard, policy; then the SHA-256 tree of the
//! bundle's bytes.
#![no_std]
#![no_main]

use core::panic::PanicInfo;
use cortex_m_rt::entry;
use twinseal_core::verify::digest::VerityDigest;
use twinseal_core::verify::policy::Policy;
use twinseal_core::verify::signature::TrustedKey;
use twinseal_core::verify::verify_manifest;
use twinseal_mcu::{held, stack, sys};

const BUNDLE_BYTES: usize = include_bytes!("../../../../core/tests/golden/small.tseal").len();

/// In a section of its own: it is no code.
#[unsafe(link_section = ".bundle")]
static BUNDLE: [u8; BUNDLE_BYTES] = *include_bytes!("../../../../core/tests/golden/small.tseal");
static KEY: [u8; 32] = *include_bytes!("../../../../core/tests/golden/small.pub");

#[entry]
fn main() -> ! {
    stack::paint();
    let verdict = verify(core::hint::black_box(&BUNDLE));
    let peak = stack::peak_bytes();
    sys::say(if verdict.is_some() {
        "verified"
    } else {
        "refused"
    });
    say_number(", bytes of stack at most: ", peak);
    say_number(", bytes of static RAM: ", stack::static_bytes());
    sys::say("\n");
    sys::power_off(u8::from(verdict.is_none()))
}

fn verify(bundle: &[u8]) -> Option<()> {
    let (manifest, signatures) = held::entries(bundle)?;
    let policy = Policy {
        compatible: "test-device",
        floor: 5,
        now: Some(1500),
        highest_time_seen: 0,
    };
    let verified =
        verify_manifest(manifest, signatures, &[TrustedKey::ed25519(KEY)], &policy).ok()?;
    let mut digest = VerityDigest::new();
    digest.update(bundle);
    core::hint::black_box((verified.value().payloads.len(), digest.finish()));
    Some(())
}
/// Without `core::fmt`, which would be measured too.
fn say_number(what: &str, number: usize) {
    sys::say(what);
    let mut place = 1_000_000;
    while place > 0 {
        let digit = (number / place % 10) as u8;
        if number >= place || place == 1 {
            sys::say(core::str::from_utf8(&[b'0' + digit]).unwrap_or_default());
        }
        place /= 10;
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    sys::power_off(2)
}
