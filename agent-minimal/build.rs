//! How the program is linked: one static file at a fixed address, without a C library and without its start files.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=link.x");
    // The library and its tests are linked as any other.
    if std::env::var_os("CARGO_FEATURE_BARE").is_none() {
        return;
    }
    let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo names the folder");
    for argument in [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,--build-id=none",
        // One segment less to align to a page each.
        "-Wl,-z,noseparate-code",
        "-Wl,-z,norelro",
        "-Wl,-z,noexecstack",
        "-Wl,--gc-sections",
        "-Wl,--no-eh-frame-hdr",
        &format!("-Wl,-T,{folder}/link.x"),
    ] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
