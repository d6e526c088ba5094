# Compiler options that keep twinseal-minimal small; sourced, never run. Why each: docs/decisions/0051-compiler-options-for-size.md.

# small_options ARCHITECTURE: prints the RUSTFLAGS of a twinseal-minimal for x86_64, aarch64 or armv7. They need RUSTC_BOOTSTRAP=1:
# the toolchain is pinned, so options that are not stable are those of one compiler.
small_options() {
    local option options list="enable-machine-outliner=always hot-cold-split inline-max-stacksize=320 inline-instr-cost=12
        disable-machine-licm disable-machine-cse tail-merge-size=2 split-spill-mode=size"
    # The first option of those for x86 makes code for 32-bit ARM that no processor must run.
    case $1 in
        x86_64) list+=" max-store-memcpy=1 max-store-memset=1 inline-threshold=50 jump-threading-threshold=12 min-jump-table-entries=8
            enable-load-pre=0 x86-cmov-converter=0 disable-block-placement greedy-reverse-local-assignment" ;;
        *) list+=" inline-threshold=30" ;;
    esac
    # Its code stands at a fixed address, and nothing in it is ever unwound.
    options="-C relocation-model=static -C force-unwind-tables=no -Z location-detail=none -Z fmt-debug=none"
    for option in $list; do
        options+=" -C llvm-args=-$option"
    done
    options+=" -Z mir-opt-level=1 -C link-arg=-Wl,--icf=all"
    options+=' --cfg sha2_backend_soft="compact"'
    printf '%s' "$options"
}
