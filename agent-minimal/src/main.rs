//! `twinseal-minimal`: one static program without a C library. As the first process of an initramfs it starts the sealed system.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

#[allow(
    unsafe_code,
    reason = "what a C library has before main, and nothing else"
)]
mod start;
