//! Says where each program lies in memory, and passes the linker scripts.

use std::env;

fn main() {
    let here = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    for (program, layout, logs) in [
        ("boot", "boot", false),
        ("factory", "boot", true),
        ("size", "boot", false),
        ("app", "app", true),
    ] {
        println!("cargo::rustc-link-arg-bin={program}=-L{here}/layout/{layout}");
        println!("cargo::rustc-link-arg-bin={program}=-Tlink.x");
        if logs {
            println!("cargo::rustc-link-arg-bin={program}=-Tdefmt.x");
        }
    }
    println!("cargo::rerun-if-changed=layout");
}
