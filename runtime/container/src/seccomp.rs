//! The RuntimeDefault seccomp filter: a search tree over system call numbers, written as classic BPF.
//!
//! Neither libseccomp nor a crate is used: seccompiler's loader forces no_new_privs on, which a build's RUN must not have (su and sudo would change
//! behaviour), and its programs test every number one after the other. This one decides in about eight comparisons.

use std::collections::BTreeMap;
use std::io;

use libc::sock_filter;

use crate::capability::Capabilities;
use crate::syscalls::{ALLOWED, ALLOWED_HERE, ALLOWED_WITH, LAST_KNOWN, RECENT};

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Offsets in `struct seccomp_data`, little endian.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const ARGUMENT_LOW_AT: u32 = 16;
const ARGUMENT_HIGH_AT: u32 = 20;

/// Flags of `clone` that make namespaces: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const NEW_NAMESPACES: u32 = 0x7e02_0000;

/// Families that no container needs and that have held kernel holes: AF_ALG and AF_VSOCK.
const REFUSED_FAMILIES: [u32; 2] = [38, 40];

/// Linux, UNAME26, ADDR_NO_RANDOMIZE's neighbours that programs do ask for, and "tell me".
const PERSONALITIES: [u32; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// What happens with a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Allow,
    /// "Operation not permitted".
    Refuse,
    /// "Function not implemented": programs fall back.
    Unknown,
    /// Allowed unless it makes namespaces.
    Clone,
    /// Allowed for harmless families.
    Socket,
    /// Allowed for harmless values.
    Personality,
}

/// The filter's program for a container with these capabilities.
pub(crate) fn program(capabilities: Capabilities) -> Vec<sock_filter> {
    let mut verdicts: BTreeMap<u32, Verdict> = BTreeMap::new();
    let extra = ALLOWED_WITH.iter().filter(|(name, _)| capabilities.contains(name)).flat_map(|(_, numbers)| *numbers);
    for number in ALLOWED.iter().chain(ALLOWED_HERE).chain(RECENT).chain(extra) {
        verdicts.insert(*number, Verdict::Allow);
    }
    let namespaces = capabilities.contains("SYS_ADMIN");
    verdicts.insert(libc::SYS_clone as u32, if namespaces { Verdict::Allow } else { Verdict::Clone });
    // Its flags lie in memory, where a filter cannot look; libraries fall back to clone.
    verdicts.insert(libc::SYS_clone3 as u32, if namespaces { Verdict::Allow } else { Verdict::Unknown });
    verdicts.insert(libc::SYS_socket as u32, Verdict::Socket);
    verdicts.insert(libc::SYS_personality as u32, Verdict::Personality);
    let ranges = ranges(&verdicts);

    let mut program = vec![
        load(ARCHITECTURE_AT),
        jump(libc::BPF_JEQ, ARCHITECTURE, 1, 0),
        give(libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32), // another architecture's calls: 32-bit programs are not run
        load(NUMBER_AT),
    ];
    search(&ranges, &mut program);
    program
}

/// Neighbours with the same verdict become one range, given by its first number.
fn ranges(verdicts: &BTreeMap<u32, Verdict>) -> Vec<(u32, Verdict)> {
    let mut ranges: Vec<(u32, Verdict)> = Vec::new();
    for number in 0..=LAST_KNOWN + 1 {
        let otherwise = if number > LAST_KNOWN { Verdict::Unknown } else { Verdict::Refuse };
        let verdict = verdicts.get(&number).copied().unwrap_or(otherwise);
        if ranges.last().is_none_or(|(_, last)| *last != verdict) {
            ranges.push((number, verdict));
        }
    }
    ranges
}

/// Appends the code that decides among these ranges, with the number in the accumulator.
fn search(ranges: &[(u32, Verdict)], program: &mut Vec<sock_filter>) {
    match ranges {
        [] => program.push(give(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32)),
        [(_, verdict)] => leaf(*verdict, program),
        several => {
            let (left, right) = several.split_at(several.len() / 2);
            let mut smaller = Vec::new();
            search(left, &mut smaller);
            // A conditional jump reaches 255 instructions, an unconditional one as far as it must.
            program.push(jump(libc::BPF_JGE, right[0].0, 0, 1));
            program.push(sock_filter { code: (libc::BPF_JMP | libc::BPF_JA) as u16, jt: 0, jf: 0, k: smaller.len() as u32 });
            program.append(&mut smaller);
            search(right, program);
        }
    }
}

fn leaf(verdict: Verdict, program: &mut Vec<sock_filter>) {
    let allow = give(libc::SECCOMP_RET_ALLOW);
    let refuse = give(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);
    match verdict {
        Verdict::Allow => program.push(allow),
        Verdict::Refuse => program.push(refuse),
        Verdict::Unknown => program.push(give(libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32)),
        Verdict::Clone => program.extend([load(ARGUMENT_LOW_AT), jump(libc::BPF_JSET, NEW_NAMESPACES, 0, 1), refuse, allow]),
        Verdict::Socket => {
            program.push(load(ARGUMENT_LOW_AT));
            for family in REFUSED_FAMILIES {
                program.extend([jump(libc::BPF_JEQ, family, 0, 1), refuse]);
            }
            program.push(allow);
        }
        Verdict::Personality => {
            program.extend([load(ARGUMENT_HIGH_AT), jump(libc::BPF_JEQ, 0, 1, 0), refuse, load(ARGUMENT_LOW_AT)]);
            for value in PERSONALITIES {
                program.extend([jump(libc::BPF_JEQ, value, 0, 1), allow]);
            }
            program.push(refuse);
        }
    }
}

fn load(offset: u32) -> sock_filter {
    sock_filter { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: offset }
}

fn jump(test: u32, value: u32, then: u8, otherwise: u8) -> sock_filter {
    sock_filter { code: (libc::BPF_JMP | test | libc::BPF_K) as u16, jt: then, jf: otherwise, k: value }
}

fn give(value: u32) -> sock_filter {
    sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: value }
}

/// Installs the filter in this thread, for good. Needs no_new_privs or CAP_SYS_ADMIN.
pub(crate) fn install(program: &[sock_filter]) -> io::Result<()> {
    let header = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: the header points to `len` instructions that live through the call; the kernel copies them and writes nothing.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const header) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Security;

    const ALL: u64 = (1 << 41) - 1;
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

    fn capabilities(add: &[&str]) -> Capabilities {
        Capabilities::of(&Security { add_capabilities: add.iter().map(|name| (*name).to_owned()).collect(), ..Security::default() }, ALL).unwrap()
    }

    /// Runs a program as the kernel would.
    fn run(program: &[sock_filter], architecture: u32, number: u32, argument: u64) -> (u32, usize) {
        let (mut at, mut accumulator, mut steps) = (0, 0u32, 0);
        loop {
            let instruction = program[at];
            let code = u32::from(instruction.code);
            steps += 1;
            at += 1;
            match code & 7 {
                libc::BPF_LD => {
                    accumulator = match instruction.k {
                        0 => number,
                        4 => architecture,
                        16 => argument as u32,
                        20 => (argument >> 32) as u32,
                        other => panic!("offset {other}"),
                    }
                }
                libc::BPF_RET => return (instruction.k, steps),
                libc::BPF_JMP if code & 0xf0 == libc::BPF_JA => at += instruction.k as usize,
                libc::BPF_JMP => {
                    let hit = match code & 0xf0 {
                        libc::BPF_JEQ => accumulator == instruction.k,
                        libc::BPF_JGE => accumulator >= instruction.k,
                        libc::BPF_JSET => accumulator & instruction.k != 0,
                        other => panic!("test {other}"),
                    };
                    at += usize::from(if hit { instruction.jt } else { instruction.jf });
                }
                other => panic!("class {other}"),
            }
        }
    }

    #[test]
    fn every_number_gets_what_the_table_says() {
        let program = program(capabilities(&[]));
        let special = [libc::SYS_clone, libc::SYS_clone3, libc::SYS_socket, libc::SYS_personality].map(|number| number as u32);
        let mut longest = 0;
        for number in 0..2000 {
            let (verdict, steps) = run(&program, ARCHITECTURE, number, 0);
            longest = longest.max(steps);
            let allowed = ALLOWED.contains(&number) || ALLOWED_HERE.contains(&number) || RECENT.contains(&number) || number == libc::SYS_chroot as u32;
            let expected = match (allowed, number > LAST_KNOWN) {
                (true, _) => ALLOW,
                (false, true) => ENOSYS,
                (false, false) => EPERM,
            };
            if !special.contains(&number) {
                assert_eq!(verdict, expected, "system call {number}");
            }
        }
        assert!(longest < 30, "{longest} steps");
        assert!(program.len() < 600, "{} instructions", program.len());
        assert_eq!(run(&program, 0x4000_0003, 1, 0).0, ENOSYS);
        assert_eq!(run(&program, ARCHITECTURE, 0x4000_0000, 0).0, ENOSYS);
    }

    #[test]
    fn arguments_are_looked_at() {
        let program = program(capabilities(&[]));
        let verdict = |number: libc::c_long, argument: u64| run(&program, ARCHITECTURE, number as u32, argument).0;
        assert_eq!(verdict(libc::SYS_clone, 0x0125_0f00), ALLOW); // a thread
        assert_eq!(verdict(libc::SYS_clone, 17), ALLOW); // a fork
        for flag in [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000] {
            assert_eq!(verdict(libc::SYS_clone, flag | 17), EPERM, "{flag:#x}");
        }
        assert_eq!(verdict(libc::SYS_clone3, 0), ENOSYS);
        assert_eq!(verdict(libc::SYS_socket, 2), ALLOW);
        assert_eq!(verdict(libc::SYS_socket, 38), EPERM);
        assert_eq!(verdict(libc::SYS_socket, 40), EPERM);
        assert_eq!(verdict(libc::SYS_personality, 0x2_0008), ALLOW);
        assert_eq!(verdict(libc::SYS_personality, 0x4_0000), EPERM);
        assert_eq!(verdict(libc::SYS_personality, 1 << 32), EPERM);
    }

    #[test]
    fn capabilities_open_their_own_calls() {
        let plain = program(capabilities(&[]));
        let admin = program(capabilities(&["SYS_ADMIN"]));
        for number in [libc::SYS_mount, libc::SYS_unshare, libc::SYS_setns, libc::SYS_bpf, libc::SYS_move_mount] {
            assert_eq!(run(&plain, ARCHITECTURE, number as u32, 0).0, EPERM, "{number}");
            assert_eq!(run(&admin, ARCHITECTURE, number as u32, 0).0, ALLOW, "{number}");
        }
        assert_eq!(run(&admin, ARCHITECTURE, libc::SYS_clone as u32, 0x1000_0000).0, ALLOW);
        for number in [libc::SYS_io_uring_setup, libc::SYS_keyctl, libc::SYS_add_key, libc::SYS_userfaultfd, libc::SYS_init_module, libc::SYS_kexec_load] {
            assert_eq!(run(&admin, ARCHITECTURE, number as u32, 0).0, EPERM, "{number}");
        }
    }
}
