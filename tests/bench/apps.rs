//! The work: applications as in the peers' published figures, made here from a fixed seed.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// RUN steps of the app `runs`.
pub const RUNS: u32 = 20;

/// Base images as root file systems.
pub struct Bases {
    /// busybox, a directory.
    pub busybox: PathBuf,
    /// Debian, a tar; `None` where it cannot be made.
    pub debian: Option<PathBuf>,
}

/// App b: four stages on Debian and one that collects, about 30 instructions, 2,000 files and 205 MB of context.
pub const APP_B: &str = "FROM debian:bookworm-slim AS base
ENV LC_ALL=C
RUN mkdir -p /work /out

FROM base AS s1
WORKDIR /work
COPY src/ /work/src/
RUN find src -type f | sort | xargs sha256sum > /out/sums.txt
RUN tar -cf /out/s1.tar --sort=name --mtime=@0 -C /work src/d00 src/d01 src/d02 src/d03
RUN gzip -n -6 /out/s1.tar

FROM base AS s2
WORKDIR /work
RUN head -c 30000000 /dev/zero | tr '\\0' 'a' > a.bin
RUN gzip -n -9 < a.bin > /out/a.gz && sha256sum a.bin > /out/a.sum
RUN for i in $(seq 200); do echo \"line $i\" >> lines.txt; done
RUN sort -R --random-source=a.bin lines.txt > /out/lines.sorted

FROM base AS s3
WORKDIR /work
RUN seq 1 1500000 > n.txt
RUN sort -n -r n.txt | md5sum > /out/n.md5
RUN mkdir tree && cd tree && for i in $(seq 1500); do echo $i > f$i; done
RUN tar -cf /out/tree.tar --sort=name --mtime=@0 tree

FROM base AS s4
WORKDIR /work
RUN perl -e 'my $s=0; for my $i (1..12000000){ $s+=$i%7 } print \"$s\\n\"' > /out/perl.txt
RUN echo 'int main(){return 0;}' > main.c
RUN perl -e 'print join(\"\\n\", map { $_*$_ } 1..300000)' > /out/squares.txt

FROM base AS final
WORKDIR /app
COPY --from=s1 /out/ /app/s1/
COPY --from=s2 /out/ /app/s2/
COPY --from=s3 /out/ /app/s3/
COPY --from=s4 /out/ /app/s4/
COPY src/d00 /app/d00
RUN ls -R /app > /app/manifest.txt
LABEL org.opencontainers.image.title=bench
EXPOSE 8080
CMD [\"cat\",\"/app/manifest.txt\"]
";

/// How much work the bench does.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Files of the app `files`.
    pub files: usize,
    /// Stages of the app `copies`, each of [`COPIES`] steps.
    pub copy_stages: usize,
    /// Stages of the app `stages`.
    pub stages: usize,
    /// Bytes of the one layer of the app `layer`.
    pub layer_bytes: usize,
}

/// COPY steps of one stage of the app `copies`: other builders allow no more than about 125 layers.
pub const COPIES: usize = 100;
/// Files of one folder of the app `files`.
const FOLDER: usize = 100;

impl Sizes {
    /// As the targets say.
    pub const FULL: Sizes = Sizes { files: 100_000, copy_stages: 10, stages: 50, layer_bytes: 1_000_000_000 };
    /// A tenth of the work, for a look while working on something.
    pub const QUICK: Sizes = Sizes { files: 10_000, copy_stages: 1, stages: 10, layer_bytes: 100_000_000 };
}

/// Writes one app below `dir`.
pub fn write_app(dir: &Path, app: &str, sizes: Sizes) {
    let dir = dir.join(app);
    match app {
        "runs" => {
            let mut text = "FROM busybox:latest\n".to_owned();
            for number in 0..RUNS {
                let _ = writeln!(text, "RUN true {number}");
            }
            write(&dir.join("Dockerfile"), text.as_bytes());
        }
        "b" => write_b(&dir),
        "files" => write_files(&dir, sizes.files),
        "copies" => write_copies(&dir, sizes.copy_stages),
        "stages" => write_stages(&dir, sizes.stages),
        "layer" => write_layer(&dir, sizes.layer_bytes),
        other => panic!("no app is called {other}"),
    }
}

fn write_b(dir: &Path) {
    write(&dir.join("Dockerfile"), APP_B.as_bytes());
    let mut noise = Noise::default();
    for folder in 0..20 {
        for file in 0..100 {
            let mut bytes: Vec<u8> = Vec::with_capacity(102_500);
            noise.fill(&mut bytes, 51_250);
            bytes.extend_from_slice(&b"strake ".repeat(7_321));
            write(&dir.join(format!("src/d{folder:02}/f{file:02}.dat")), &bytes);
        }
    }
}

/// Many files of 0 to 4 KB, 2 KB on average, all in one COPY.
fn write_files(dir: &Path, files: usize) {
    write(&dir.join("Dockerfile"), b"FROM busybox:latest\nCOPY src /src\nCMD [\"true\"]\n");
    let mut noise = Noise::default();
    for number in 0..files {
        let mut bytes = Vec::new();
        noise.fill(&mut bytes, number % 41 * 100);
        write(&dir.join(format!("src/d{:02}/e{:02}/f{:02}", number / FOLDER / 32, number / FOLDER % 32, number % FOLDER)), &bytes);
    }
}

/// Stages of [`COPIES`] steps, each of which copies one tiny file, and a last one that needs them all.
fn write_copies(dir: &Path, stages: usize) {
    let mut text = String::new();
    let mut last = "FROM busybox:latest\n".to_owned();
    for stage in 0..stages {
        let _ = writeln!(text, "FROM busybox:latest AS s{stage}");
        for step in 0..COPIES {
            let name = format!("f{stage}-{step}");
            let _ = writeln!(text, "COPY {name} /tiny/{name}");
            write(&dir.join(&name), format!("{stage} {step}\n").as_bytes());
        }
        let _ = writeln!(last, "COPY --from=s{stage} /tiny /s{stage}");
    }
    write(&dir.join("Dockerfile"), (text + &last).as_bytes());
}

/// Stages of one RUN that does nothing, and a last one that needs them all.
fn write_stages(dir: &Path, stages: usize) {
    let mut text = String::new();
    let mut last = "FROM busybox:latest\nRUN".to_owned();
    for stage in 0..stages {
        let _ = writeln!(text, "FROM busybox:latest AS s{stage}\nRUN true {stage}");
        let _ = write!(last, " --mount=type=bind,from=s{stage},source=/etc,target=/m/{stage}");
    }
    write(&dir.join("Dockerfile"), (text + &last + " true\n").as_bytes());
}

/// One file, in pieces of 256 KB: noise, and the files of a Debian system (words where there is none) by turns.
fn write_layer(dir: &Path, bytes: usize) {
    use std::io::{BufRead as _, Write as _};
    const PIECE: usize = 256 << 10;
    write(&dir.join("Dockerfile"), b"FROM scratch\nCOPY blob /blob\n");
    let system = |path: &Path| Some(std::io::BufReader::with_capacity(PIECE, fs::File::open(path).ok()?));
    let debian = debian_tar();
    let mut files = system(&debian);
    let file = fs::File::create(dir.join("blob")).expect("a file");
    let mut file = std::io::BufWriter::with_capacity(1 << 20, file);
    let (mut noise, mut left, mut is_noise) = (Noise::default(), bytes, true);
    while left > 0 {
        let (mut piece, length) = (Vec::with_capacity(PIECE), left.min(PIECE));
        match &mut files {
            Some(found) if !is_noise => {
                if found.fill_buf().expect("read").is_empty() {
                    files = system(&debian);
                    continue;
                }
                let got = found.buffer().len().min(length);
                piece.extend_from_slice(&found.buffer()[..got]);
                found.consume(got);
            }
            None if !is_noise => noise.words(&mut piece, length),
            _ => noise.fill(&mut piece, length),
        }
        file.write_all(&piece).expect("written");
        left -= piece.len();
        is_noise = !is_noise;
    }
    file.flush().expect("written");
}

/// xorshift64: incompressible, and the same everywhere.
struct Noise(u64);

impl Default for Noise {
    fn default() -> Self {
        Noise(42)
    }
}

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn fill(&mut self, bytes: &mut Vec<u8>, length: usize) {
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
    }

    /// Text of a vocabulary of 4,096 words, the short ones more often.
    fn words(&mut self, bytes: &mut Vec<u8>, length: usize) {
        while bytes.len() < length {
            let number = self.next();
            let mut word = (number & 0xfff) & (number >> 12 & 0xfff | 0x3f);
            while word > 0 {
                bytes.push(b'a' + (word % 20) as u8);
                word = word / 20 * 3 / 2;
            }
            bytes.push(if number >> 60 == 0 { b'\n' } else { b' ' });
        }
        bytes.truncate(length);
    }
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    fs::write(path, bytes).expect("a file");
}

/// Appends a line to one file of a context.
pub fn touch_one(context: &Path) {
    use std::io::Write;
    let path = [context.join("src/d00/f00.dat"), context.join("src/d00/e00/f00")].into_iter().find(|path| path.is_file());
    let mut file = fs::OpenOptions::new().append(true).open(path.expect("the app has a file to change")).expect("the file is there");
    writeln!(file, "changed").expect("written");
}

/// Where the Debian base is kept.
fn debian_tar() -> PathBuf {
    strake_tests::repository().join(".base-images/debian.tar")
}

/// Makes the base images: Debian is kept from run to run, for it takes 20 s.
pub fn bases(dir: &Path) -> Bases {
    let busybox = dir.join("busybox");
    let program = strake_tests::find("busybox").expect("busybox is installed (busybox-static)");
    fs::create_dir_all(busybox.join("bin")).expect("a folder");
    fs::create_dir_all(busybox.join("etc")).expect("a folder");
    fs::copy(&program, busybox.join("bin/busybox")).expect("copied");
    let applets = Command::new(program).arg("--list").output().expect("busybox runs");
    for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|name| *name != "busybox") {
        std::os::unix::fs::symlink("busybox", busybox.join("bin").join(applet)).expect("a link");
    }
    fs::write(busybox.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("written");
    let kept = debian_tar();
    if !kept.is_file() && strake_tests::find("mmdebstrap").is_some() {
        eprintln!("making a Debian base, about 20 s ...");
        fs::create_dir_all(kept.parent().expect("a parent")).expect("a folder");
        let made = Command::new("mmdebstrap").args(["--quiet", "--variant=minbase", "--include=ca-certificates", "bookworm"]).arg(&kept).status();
        if !made.is_ok_and(|status| status.success()) {
            let _ = fs::remove_file(&kept);
        }
    }
    Bases { busybox, debian: kept.is_file().then_some(kept) }
}
