//! Whether this machine can run what a plan's RUNs are for: natively, or by an interpreter that is registered with the kernel (binfmt_misc).
//!
//! The kernel matches a program's first bytes with what was registered; so does this, with the first bytes of an ELF program of the architecture in question.

use std::fmt;

use strake_oci::Platform;
use strake_plan::{BuildPlan, Op, Origin};

/// One file of /proc/sys/fs/binfmt_misc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// The name it was registered under: `qemu-aarch64`.
    pub name: String,
    /// Not switched off.
    pub enabled: bool,
    /// The program that runs what matches.
    pub path: String,
    /// One letter a flag; `F`: the interpreter was opened when it was registered, and works in every root file system.
    pub flags: String,
    /// Where the magic stands in the program.
    pub offset: usize,
    /// The bytes that must be there.
    pub magic: Vec<u8>,
    /// Which bits of them count; all of them when empty.
    pub mask: Vec<u8>,
}

/// What is known of the machine that builds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// binfmt_misc is switched on and could be read.
    pub visible: bool,
    /// What is registered there.
    pub interpreters: Vec<Interpreter>,
}

/// How a platform's programs run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// By the processor.
    Native,
    /// By this interpreter.
    Emulated(String),
    /// Not at all.
    Cannot(Reason),
}

/// Why a platform's programs cannot run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Another operating system.
    System,
    /// No interpreter is registered.
    Unregistered,
    /// binfmt_misc is not there or switched off.
    Invisible,
    /// The interpreter of that name is switched off.
    Disabled(String),
    /// The interpreter of that name is looked for in the root file system of each step, where it is not: flag F is missing.
    NotFixed(String, String),
    /// An architecture whose programs strake cannot tell.
    Unknown,
}

/// A RUN that cannot run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Where it stands.
    pub origin: Origin,
    /// Its stage.
    pub stage: String,
    /// What it is for.
    pub platform: Platform,
    /// Why it cannot run.
    pub reason: Reason,
}

impl Interpreter {
    /// Reads a file of binfmt_misc. `None` for one that matches by the name of the file.
    pub fn parse(name: &str, text: &str) -> Option<Self> {
        let mut interpreter =
            Interpreter { name: name.to_owned(), enabled: false, path: String::new(), flags: String::new(), offset: 0, magic: Vec::new(), mask: Vec::new() };
        for line in text.lines() {
            match line.split_once(' ').unwrap_or((line, "")) {
                ("enabled", _) => interpreter.enabled = true,
                ("interpreter", path) => interpreter.path = path.to_owned(),
                ("flags:", flags) => interpreter.flags = flags.trim().to_owned(),
                ("offset", offset) => interpreter.offset = offset.trim().parse().ok()?,
                ("magic", magic) => interpreter.magic = bytes(magic)?,
                ("mask", mask) => interpreter.mask = bytes(mask)?,
                _ => {}
            }
        }
        (!interpreter.magic.is_empty()).then_some(interpreter)
    }

    fn matches(&self, program: &[u8]) -> bool {
        let Some(found) = program.get(self.offset..self.offset + self.magic.len()) else { return false };
        let bits = |place: usize| self.mask.get(place).copied().unwrap_or(0xff);
        self.magic.iter().zip(found).enumerate().all(|(place, (wanted, found))| wanted & bits(place) == found & bits(place))
    }
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let text = text.trim().as_bytes();
    text.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// The first bytes of a program: ELF class, byte order and machine (System V ABI, "ELF Header"); types `ET_EXEC` and `ET_DYN`.
fn programs(architecture: &str) -> Option<[Vec<u8>; 2]> {
    let (class, order, machine): (u8, u8, u16) = match architecture {
        "386" => (1, 1, 3),
        "amd64" => (2, 1, 62),
        "arm" => (1, 1, 40),
        "arm64" => (2, 1, 183),
        "loong64" => (2, 1, 258),
        "mips" => (1, 2, 8),
        "mipsle" => (1, 1, 8),
        "mips64" => (2, 2, 8),
        "mips64le" => (2, 1, 8),
        "ppc64" => (2, 2, 21),
        "ppc64le" => (2, 1, 21),
        "riscv64" => (2, 1, 243),
        "s390x" => (2, 2, 22),
        _ => return None,
    };
    let program = |kind: u16| {
        let mut header = vec![0x7f, b'E', b'L', b'F', class, order, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for word in [kind, machine] {
            header.extend(if order == 1 { word.to_le_bytes() } else { word.to_be_bytes() });
        }
        // What follows (version, entry, …) is never part of a registration that is for all programs.
        header.resize(128, 0);
        header[if order == 1 { 20 } else { 23 }] = 1;
        header
    };
    Some([program(2), program(3)])
}

/// Processors run the programs of their own architecture, whatever the variant, and of their 32-bit relative.
fn is_native(build: &Platform, wanted: &Platform) -> bool {
    let pair = (build.architecture.as_str(), wanted.architecture.as_str());
    build.os == wanted.os && (pair.0 == pair.1 || matches!(pair, ("amd64", "386") | ("arm64", "arm")))
}

/// How programs for `wanted` run on `build`.
pub fn runs(build: &Platform, wanted: &Platform, machine: &Machine) -> Verdict {
    if build.os != wanted.os {
        return Verdict::Cannot(Reason::System);
    }
    if is_native(build, wanted) {
        return Verdict::Native;
    }
    let Some(programs) = programs(&wanted.architecture) else { return Verdict::Cannot(Reason::Unknown) };
    if !machine.visible {
        return Verdict::Cannot(Reason::Invisible);
    }
    let fitting = machine.interpreters.iter().filter(|interpreter| programs.iter().all(|program| interpreter.matches(program)));
    let mut reason = Reason::Unregistered;
    for interpreter in fitting {
        let name = || interpreter.name.clone();
        if !interpreter.enabled {
            reason = Reason::Disabled(name());
        } else if !interpreter.flags.contains('F') {
            reason = Reason::NotFixed(name(), interpreter.path.clone());
        } else {
            return Verdict::Emulated(name());
        }
    }
    Verdict::Cannot(reason)
}

/// The RUNs of a plan that cannot run here, in order.
pub fn foreign_runs(plan: &BuildPlan, build: &Platform, machine: &Machine) -> Vec<Foreign> {
    let each = plan.steps.iter().filter_map(|step| {
        let Op::Run(run) = &step.op else { return None };
        let platform = run.platform.as_ref()?;
        let Verdict::Cannot(reason) = runs(build, platform, machine) else { return None };
        Some(Foreign { origin: step.origin.clone(), stage: step.stage.clone(), platform: platform.clone(), reason })
    });
    each.collect()
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Foreign { stage, platform, reason, .. } = self;
        write!(f, "stage {stage} runs a command of {platform}, and this machine cannot: ")?;
        match reason {
            Reason::System => write!(f, "it is not {}", platform.os),
            Reason::Unregistered => write!(f, "no interpreter for {} is registered with binfmt_misc", platform.architecture),
            Reason::Invisible => f.write_str("/proc/sys/fs/binfmt_misc is not mounted, or switched off"),
            Reason::Disabled(name) => write!(f, "the interpreter {name} is switched off in binfmt_misc"),
            Reason::NotFixed(name, path) => write!(f, "the interpreter {name} is registered without flag F, so that {path} would have to be in the image"),
            Reason::Unknown => write!(f, "strake does not know what programs of {} look like", platform.architecture),
        }
    }
}

impl Reason {
    /// What to do about it.
    pub fn fix(&self) -> &'static str {
        match self {
            Reason::System => "build that platform on a machine of its kind",
            Reason::Unregistered | Reason::Invisible | Reason::Disabled(_) | Reason::NotFixed(..) => {
                "cross-compile in a stage `FROM --platform=$BUILDPLATFORM` and COPY the result, or register an emulator with flag F (Debian: apt install qemu-user-static binfmt-support)"
            }
            Reason::Unknown => "cross-compile in a stage `FROM --platform=$BUILDPLATFORM` and COPY the result",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Interpreter, Machine, Reason, Verdict, runs};
    use strake_oci::Platform;

    const ARM64: &str = "enabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: OCF\noffset 0\nmagic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n";
    const S390X: &str = "enabled\ninterpreter /usr/bin/qemu-s390x-static\nflags: F\noffset 0\nmagic 7f454c4602020100000000000000000000020016\nmask ffffffffffffff00fffffffffffffffffffeffff\n";

    fn platform(text: &str) -> Platform {
        text.parse().expect("a platform")
    }

    fn machine(texts: &[(&str, String)]) -> Machine {
        Machine { visible: true, interpreters: texts.iter().filter_map(|(name, text)| Interpreter::parse(name, text)).collect() }
    }

    #[test]
    fn interpreters_are_found_by_what_they_match() {
        let amd64 = platform("linux/amd64");
        let both = machine(&[
            ("qemu-aarch64", ARM64.to_owned()),
            ("odd", S390X.to_owned()),
            ("python3", "enabled\ninterpreter /usr/bin/python3\nflags: \nextension .pyc\n".to_owned()),
        ]);
        assert_eq!(both.interpreters.len(), 2, "names of files match no program");
        let verdict = |wanted: &str| runs(&amd64, &platform(wanted), &both);
        assert_eq!(verdict("linux/arm64"), Verdict::Emulated("qemu-aarch64".to_owned()));
        assert_eq!(verdict("linux/s390x"), Verdict::Emulated("odd".to_owned()), "the name says nothing");
        assert_eq!(verdict("linux/arm/v7"), Verdict::Cannot(Reason::Unregistered));
        assert_eq!(verdict("linux/riscv64"), Verdict::Cannot(Reason::Unregistered));
        assert_eq!(verdict("linux/alpha"), Verdict::Cannot(Reason::Unknown));
        assert_eq!(verdict("windows/amd64"), Verdict::Cannot(Reason::System));
        for native in ["linux/amd64", "linux/amd64/v3", "linux/386"] {
            assert_eq!(verdict(native), Verdict::Native, "{native}");
        }
    }

    #[test]
    fn an_interpreter_must_be_on_and_fixed() {
        let verdict = |text: String| runs(&platform("linux/amd64"), &platform("linux/arm64"), &machine(&[("q", text)]));
        assert_eq!(verdict(ARM64.replace("enabled", "disabled")), Verdict::Cannot(Reason::Disabled("q".to_owned())));
        let path = "/usr/bin/qemu-aarch64-static".to_owned();
        assert_eq!(verdict(ARM64.replace("OCF", "OC")), Verdict::Cannot(Reason::NotFixed("q".to_owned(), path)));
        let unseen = Machine::default();
        assert_eq!(runs(&platform("linux/amd64"), &platform("linux/arm64"), &unseen), Verdict::Cannot(Reason::Invisible));
    }

    #[test]
    fn registrations_that_are_no_registrations_are_passed_over() {
        for text in ["", "enabled", "enabled\nmagic 7g\n", "enabled\noffset x\nmagic 7f\n"] {
            assert_eq!(Interpreter::parse("x", text), None, "{text}");
        }
        let far = Interpreter::parse("x", "enabled\ninterpreter /x\nflags: F\noffset 4000\nmagic 7f\n").expect("read");
        assert!(!far.matches(&[0x7f; 128]));
    }
}
