//! The network controller LAN9118, as smoltcp wants a device: frames in, frames out. Its interrupt wakes the processor, no more.
//!
//! Registers are those of the LAN9118's data sheet (Microchip DS00002266), chapter 5.
//!
//! # Invariants
//! - A frame with an error, or longer than a frame may be, is dropped in the controller and never reaches the stack.

use crate::machine::ETHERNET;
use crate::sys::{read_register, write_register};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

mod register {
    pub const RX_DATA: usize = 0x00;
    pub const TX_DATA: usize = 0x20;
    pub const RX_STATUS: usize = 0x40;
    pub const TX_STATUS: usize = 0x48;
    pub const INTERRUPT_CONFIG: usize = 0x54;
    pub const INTERRUPT_STATUS: usize = 0x58;
    pub const INTERRUPT_ENABLE: usize = 0x5c;
    pub const BYTE_TEST: usize = 0x64;
    pub const FIFO_LEVELS: usize = 0x68;
    pub const TX_CONFIG: usize = 0x70;
    pub const HARDWARE_CONFIG: usize = 0x74;
    pub const RX_CONTROL: usize = 0x78;
    pub const RX_INFO: usize = 0x7c;
    pub const TX_INFO: usize = 0x80;
    pub const MAC_COMMAND: usize = 0xa4;
    pub const MAC_DATA: usize = 0xa8;
}

/// Registers behind `MAC_COMMAND`.
mod mac {
    pub const CONTROL: u32 = 1;
    pub const ADDRESS_HIGH: u32 = 2;
    pub const ADDRESS_LOW: u32 = 3;
}

/// What `BYTE_TEST` must say.
const BYTE_ORDER: u32 = 0x8765_4321;
const MAC_BUSY: u32 = 1 << 31;
const MAC_READ: u32 = 1 << 30;
const MAC_RECEIVE_AND_TRANSMIT: u32 = 0b1100;
const TX_ON: u32 = 0b10;
/// "Must be one", and the size of the transmit FIFO in KiB, as after a reset.
const HARDWARE_DEFAULT: u32 = 1 << 20 | 5 << 16;
const SOFT_RESET: u32 = 1;
const RX_ERROR: u32 = 1 << 15;
const RX_FAST_FORWARD: u32 = 1 << 31;
/// On, active high, push-pull.
const INTERRUPT_ON: u32 = 1 << 8 | 1 << 4 | 1;
/// There are more received frames than the level says, which is none.
const RX_WAITING: u32 = 1 << 3;
const RX_LEVEL: u32 = 0;
/// First and last segment at once: a frame is in one piece.
const TX_WHOLE: u32 = 1 << 13 | 1 << 12;

/// Longest frame without its checksum: header and 1,500 bytes.
const FRAME_MAX_BYTES: usize = 1514;
const CHECKSUM_BYTES: usize = 4;

/// Room that a frame takes in the transmit FIFO besides its words: two commands.
const TX_COMMAND_BYTES: usize = 8;

/// Times that a busy controller is asked again: it needs microseconds.
const PATIENCE: u32 = 100_000;

/// The controller does not answer as a LAN9118.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub struct NoController;

/// The controller.
pub struct Lan9118 {
    frame: [u8; FRAME_MAX_BYTES],
}

impl Lan9118 {
    /// Resets it and switches it on.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn start() -> Result<Self, NoController> {
        if read_register(ETHERNET, register::BYTE_TEST) != BYTE_ORDER {
            return Err(NoController);
        }
        write_register(ETHERNET, register::HARDWARE_CONFIG, SOFT_RESET);
        wait_until(|| read_register(ETHERNET, register::HARDWARE_CONFIG) & SOFT_RESET == 0)?;
        write_register(ETHERNET, register::HARDWARE_CONFIG, HARDWARE_DEFAULT);
        write_register(ETHERNET, register::TX_CONFIG, TX_ON);
        write_register(ETHERNET, register::FIFO_LEVELS, RX_LEVEL);
        write_register(ETHERNET, register::INTERRUPT_ENABLE, RX_WAITING);
        write_register(ETHERNET, register::INTERRUPT_CONFIG, INTERRUPT_ON);
        let control = read_mac(mac::CONTROL)?;
        write_mac(mac::CONTROL, control | MAC_RECEIVE_AND_TRANSMIT)?;
        Ok(Self {
            frame: [0; FRAME_MAX_BYTES],
        })
    }

    /// Its address.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn address(&self) -> Result<[u8; 6], NoController> {
        let [a, b, c, d] = read_mac(mac::ADDRESS_LOW)?.to_le_bytes();
        let [e, f, ..] = read_mac(mac::ADDRESS_HIGH)?.to_le_bytes();
        Ok([a, b, c, d, e, f])
    }

    /// Takes back the interrupt; the next frame raises it again.
    pub fn note_frames(&self) {
        write_register(ETHERNET, register::INTERRUPT_STATUS, RX_WAITING);
    }

    /// Takes the next sound frame out of the controller; gives its length.
    fn take(&mut self) -> Option<usize> {
        while (read_register(ETHERNET, register::RX_INFO) >> 16) & 0xff > 0 {
            let status = read_register(ETHERNET, register::RX_STATUS);
            let stored = (status >> 16) as usize & 0x3fff;
            let length = stored.saturating_sub(CHECKSUM_BYTES);
            if status & RX_ERROR != 0 || length == 0 || length > FRAME_MAX_BYTES {
                drop_frame(stored);
                continue;
            }
            for number in 0..stored.div_ceil(4) {
                let word = read_register(ETHERNET, register::RX_DATA).to_le_bytes();
                for (to, from) in self.frame.iter_mut().skip(number * 4).zip(word) {
                    *to = from;
                }
            }
            return Some(length);
        }
        None
    }
}

/// Passes over a frame: fast forward needs four words or more, fewer are read.
fn drop_frame(stored: usize) {
    let words = stored.div_ceil(4);
    if words < 4 {
        for _ in 0..words {
            read_register(ETHERNET, register::RX_DATA);
        }
    } else {
        write_register(ETHERNET, register::RX_CONTROL, RX_FAST_FORWARD);
        // Where it never ends, the next frames are nonsense and are dropped too.
        let _ = wait_until(|| read_register(ETHERNET, register::RX_CONTROL) & RX_FAST_FORWARD == 0);
    }
}

fn wait_until(mut done: impl FnMut() -> bool) -> Result<(), NoController> {
    (0..PATIENCE)
        .any(|_| done())
        .then_some(())
        .ok_or(NoController)
}

fn mac_is_idle() -> bool {
    read_register(ETHERNET, register::MAC_COMMAND) & MAC_BUSY == 0
}

fn read_mac(number: u32) -> Result<u32, NoController> {
    write_register(
        ETHERNET,
        register::MAC_COMMAND,
        MAC_BUSY | MAC_READ | number,
    );
    wait_until(mac_is_idle)?;
    Ok(read_register(ETHERNET, register::MAC_DATA))
}

fn write_mac(number: u32, value: u32) -> Result<(), NoController> {
    write_register(ETHERNET, register::MAC_DATA, value);
    write_register(ETHERNET, register::MAC_COMMAND, MAC_BUSY | number);
    wait_until(mac_is_idle)
}

/// A frame that has come.
pub struct Received<'d>(&'d [u8]);

/// Room for a frame to send.
pub struct Transmit;

impl phy::RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, work: F) -> R {
        work(self.0)
    }
}

impl phy::TxToken for Transmit {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, work: F) -> R {
        let mut frame = [0; FRAME_MAX_BYTES];
        // The stack keeps to the size that the capabilities tell.
        let frame = frame.get_mut(..length).unwrap_or_default();
        let result = work(frame);
        write_register(ETHERNET, register::TX_DATA, TX_WHOLE | frame.len() as u32);
        write_register(ETHERNET, register::TX_DATA, frame.len() as u32);
        for piece in frame.chunks(4) {
            let mut word = [0; 4];
            word.iter_mut()
                .zip(piece)
                .for_each(|(to, from)| *to = *from);
            write_register(ETHERNET, register::TX_DATA, u32::from_le_bytes(word));
        }
        result
    }
}

/// Whether the longest frame fits into the transmit FIFO; what the controller says of frames that went out is thrown away.
fn has_room() -> bool {
    let info = read_register(ETHERNET, register::TX_INFO);
    for _ in 0..(info >> 16) & 0xff {
        read_register(ETHERNET, register::TX_STATUS);
    }
    (info & 0xffff) as usize >= FRAME_MAX_BYTES.next_multiple_of(4) + TX_COMMAND_BYTES
}

impl phy::Device for Lan9118 {
    type RxToken<'d> = Received<'d>;
    type TxToken<'d> = Transmit;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Transmit)> {
        if !has_room() {
            return None;
        }
        let length = self.take()?;
        Some((Received(self.frame.get(..length)?), Transmit))
    }

    fn transmit(&mut self, _: Instant) -> Option<Transmit> {
        has_room().then_some(Transmit)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME_MAX_BYTES;
        capabilities
    }
}
