//! The program is linked to a fixed address: it has megabytes of tables full of addresses, which every start, and so every container's monitor, would have
//! to relocate and then keep as memory of its own.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=-no-pie");
}
