//! One install: core's installer between the web server and the flash.
//!
//! # Power loss
//! See [`crate::slots`]: the next install finds what is there.

use crate::flash::Flash;
use crate::held::{COMPATIBLE, FrontBuffer};
use crate::http::{Bundle, FetchError};
use crate::network::Network;
use crate::slots::{Running, Scratch, Slots};
use crate::watchdog;
use smoltcp::wire::Ipv4Address;
use twinseal_core::boot::Set;
use twinseal_core::decode::Inflate;
use twinseal_core::install::{Config, Installed, Installer, OUTPUT_MIN_BYTES, Workspace};
use twinseal_core::source::{RunError, run};
use twinseal_core::verify::policy::Policy;
use twinseal_core::verify::signature::TrustedKey;
use twinseal_core::wire::FRONT_MAX_BYTES;
use twinseal_core::wire::digest::Sha256Digest;

/// Where the bundle is: a fixed address, so the firmware needs no name server.
const SERVER: Ipv4Address = Ipv4Address::new(10, 0, 2, 100);
const PATH: &str = "/update.tseal";

/// Largest range of a bundle for this device: its buffer.
const RANGE_MAX_BYTES: usize = 8192;

/// The decoder for DEFLATE, the one time that it is asked for. Made in a frame of its own: it passes over the stack.
#[inline(never)]
pub fn inflate() -> Option<&'static mut Inflate> {
    cortex_m::singleton!(: Inflate = Inflate::new())
}

/// Memory for an install: zeros, so that it is no part of the image.
pub struct Memory {
    /// Front matter of a set that is looked at.
    pub held: FrontBuffer,
    front: FrontBuffer,
    output: [u8; OUTPUT_MIN_BYTES],
    range: [u8; RANGE_MAX_BYTES],
    scratch: Scratch,
}

impl Memory {
    /// Memory that nothing uses yet.
    pub const fn new() -> Self {
        Self {
            held: [0; FRONT_MAX_BYTES],
            front: [0; FRONT_MAX_BYTES],
            output: [0; OUTPUT_MIN_BYTES],
            range: [0; RANGE_MAX_BYTES],
            scratch: [0; size_of::<Scratch>()],
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

/// What an install is for.
pub struct Order {
    /// The set to write.
    pub target: Set,
    /// The image of the running set.
    pub running: Option<Running>,
    /// The floor.
    pub floor: u64,
    /// Manifests that are not wanted: what runs already, what failed here.
    pub unwanted: [Option<Sha256Digest>; 2],
}

/// Installs what the server has.
///
/// # Errors
/// [`RunError`]; `Declined` for a release that is not wanted.
pub fn install(
    flash: &mut Flash,
    network: &mut Network,
    memory: &mut Memory,
    inflate: &mut Inflate,
    order: &Order,
) -> Result<Installed, RunError<FetchError>> {
    let keys = [TrustedKey::ed25519(flash.key())];
    let config = Config {
        keys: &keys,
        policy: Policy {
            compatible: COMPATIBLE,
            floor: order.floor,
            now: None,
            highest_time_seen: 0,
        },
        request_max_bytes: RANGE_MAX_BYTES as u32,
        source_bytes: None,
        audit: false,
        read_back: true,
        budget: None,
        can_go_back: true,
    };
    let workspace = Workspace {
        front: &mut memory.front,
        output: &mut memory.output,
        inflate,
        zstd: None,
    };
    let mut source = Bundle::new(network, SERVER, PATH);
    let mut slots = Slots::new(flash, order.target, order.running, &mut memory.scratch);
    let mut installer = Installer::new(config, workspace)?;
    run(
        &mut installer,
        &mut source,
        &mut slots,
        &mut memory.range,
        |installer, plan| {
            watchdog::feed();
            let manifest = installer
                .manifest()
                .map(|manifest| *manifest.manifest_sha256());
            let wanted = !order.unwanted.contains(&manifest);
            if wanted {
                defmt::info!("update: {=u64} bytes to fetch", plan.source_bytes());
            }
            wanted
        },
    )?;
    Ok(installer.into_installed()?)
}
