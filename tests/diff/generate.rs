//! Cases out of a seed: few names, so that things meet: files over directories, links on the way, layers over layers.

use strake_tests::Dice;

use crate::case::{Case, Line, Thing};
use crate::features::{Feature, Features};
use crate::served;

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const MODES: [u32; 8] = [0o644, 0o755, 0o600, 0o4755, 0o2711, 0o666, 0o400, 0o1777];
const DIR_MODES: [u32; 6] = [0o755, 0o700, 0o1777, 0o2755, 0o775, 0o750];
const TARGETS: [&str; 9] = ["a", "b", "../a", "/d", "/tmp/x", "c/d", "nowhere", "../../../d", "."];
const OWNERS: [&str; 8] = ["1000", "1000:7", "app", "app:staff", ":50", "0:0", "65534:65534", "root"];
const CHMODS: [&str; 8] = ["755", "4755", "600", "1777", "0640", "2750", "u+x,go-w", "a=rX"];
/// Where RUN, COPY and WORKDIR go; the base has some of them as directories, links and files.
const PLACES: [&str; 18] =
    ["/a", "/b", "/a/b", "/a/b/c", "/d", "/d/a", "/d/e", "/d/e/b", "/l", "/l/a", "/l/new", "/rel", "/rel/c", "/dangling", "/tmp/x", "/file", "/e/", "/x/y/"];

/// Further names of a file say the same of it as the first one, as every program that writes archives does.
fn one_owner_a_file(things: &mut [(String, Thing, u32, u32)]) {
    for index in 0..things.len() {
        let Thing::Hard { target } = &things[index].1 else { continue };
        let first = things.iter().find(|(path, ..)| path == target).map(|(_, _, uid, gid)| (*uid, *gid));
        (things[index].2, things[index].3) = first.unwrap_or_default();
    }
}

/// A right to use ports below 1024, as `setcap` writes it.
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// Where mounts go: below what is there, onto it, through a link, and where nothing is.
const MOUNT_PLACES: [&str; 8] = ["/mnt", "/a", "/d", "/d/m", "/l/m", "/new/deep", "/e/x", "/rel/n"];

struct Maker<'f> {
    dice: Dice,
    seed: u64,
    stages: u64,
    avoid: &'f Features,
    /// Paths of the context, for COPY to name.
    paths: Vec<String>,
}

/// The case of a seed, without what somebody does not know.
pub fn case(seed: u64, avoid: &Features) -> Case {
    let mut maker = Maker { dice: Dice::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d)), seed, stages: 0, avoid, paths: Vec::new() };
    let things = maker.things();
    let ignore = maker.ignore();
    let lines = maker.lines();
    let args = if maker.one_in(4) { vec!["A=given".to_owned()] } else { Vec::new() };
    Case { seed, things, ignore, lines, args }
}

impl Maker<'_> {
    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.dice.below(limit as u64)).expect("small")
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// Whether this is one of those with the feature; the dice fall the same for everybody.
    fn has(&mut self, feature: Feature, many: usize) -> bool {
        self.one_in(many) && !self.avoid.contains_key(&feature)
    }

    fn name(&mut self) -> &'static str {
        self.of(&NAMES)
    }

    fn path(&mut self) -> String {
        let depth = 1 + self.below(3);
        (0..depth).map(|_| self.name()).collect::<Vec<_>>().join("/")
    }

    fn thing(&mut self, known: &[String]) -> Thing {
        match self.below(21) {
            20 => {
                let attribute: (&str, &[u8]) = if self.one_in(2) { ("security.capability", CAPABILITY) } else { ("user.note", b"kept") };
                Thing::Marked { text: "marked".to_owned(), attribute }
            }
            0..=8 => Thing::File { text: format!("text {}", self.below(1000)), mode: self.of(&MODES) },
            9..=12 => Thing::Dir { mode: self.of(&DIR_MODES) },
            13..=15 => Thing::Symlink { target: self.of(&TARGETS).to_owned() },
            16..=17 if !known.is_empty() => Thing::Hard { target: known[self.below(known.len())].clone() },
            18 => Thing::Fifo,
            _ => Thing::File { text: String::new(), mode: 0o644 },
        }
    }

    /// Things whose parents are directories, each before what is in it.
    fn tree(&mut self, most: usize) -> Vec<(String, Thing)> {
        let mut found: Vec<(String, Thing)> = Vec::new();
        for _ in 0..2 + self.below(most) {
            let path = self.path();
            let taken = |path: &str, found: &[(String, Thing)]| found.iter().any(|(other, _)| other == path);
            let parents: Vec<String> = path.match_indices('/').map(|(at, _)| path[..at].to_owned()).collect();
            let blocked = parents.iter().any(|parent| found.iter().any(|(other, thing)| other == parent && !matches!(thing, Thing::Dir { .. })));
            if blocked || taken(&path, &found) {
                continue;
            }
            for parent in parents {
                if !taken(&parent, &found) {
                    let mode = self.of(&DIR_MODES);
                    found.push((parent, Thing::Dir { mode }));
                }
            }
            let files: Vec<String> = found.iter().filter(|(_, thing)| matches!(thing, Thing::File { .. })).map(|(path, _)| path.clone()).collect();
            let thing = self.thing(&files);
            found.push((path, thing));
        }
        found
    }

    fn things(&mut self) -> Vec<(String, Thing)> {
        let mut things = self.tree(9);
        if self.one_in(3) {
            let inner = self.tree(6);
            let mut owned: Vec<(String, Thing, u32, u32)> =
                inner.into_iter().map(|(path, thing)| (path, thing, self.of(&[0, 0, 1000, 5]), self.of(&[0, 0, 1001, 6]))).collect();
            one_owner_a_file(&mut owned);
            things.push(("t.tar".to_owned(), Thing::Tar { things: owned, gzip: self.one_in(2) }));
        }
        self.paths = things.iter().map(|(path, _)| path.clone()).collect();
        things
    }

    fn ignore(&mut self) -> Vec<String> {
        if !self.one_in(3) {
            return Vec::new();
        }
        let count = 1 + self.below(3);
        (0..count).map(|_| self.pattern()).collect()
    }

    fn pattern(&mut self) -> String {
        let path = self.path();
        match self.below(8) {
            0 => format!("!{path}"),
            1 => format!("**/{}", self.name()),
            2 => format!("{path}/*"),
            3 => format!("{path}/**"),
            4 => "*".to_owned() + "/" + self.name(),
            5 => format!("!**/{}", self.name()),
            6 => "[ab]".to_owned(),
            _ => path,
        }
    }

    fn lines(&mut self) -> Vec<Line> {
        let mut lines = Vec::new();
        if self.one_in(4) {
            lines.push(Line::Plain("ARG A=global".to_owned()));
        }
        let stages = 1 + self.below(3);
        for stage in 0..stages {
            let from = match self.below(8) {
                0 => "scratch".to_owned(),
                1 | 2 if stage > 0 => format!("s{}", self.below(stage)),
                _ => "base:1".to_owned(),
            };
            lines.push(Line::Plain(format!("FROM {from} AS s{stage}")));
            // Whether there is a shell in it: known for scratch only, and for what is made from it not to be asked for.
            let shell = from == "base:1";
            self.stages = stage as u64;
            for _ in 0..2 + self.below(6) {
                let line = self.line(shell);
                lines.push(line);
            }
        }
        lines
    }

    fn line(&mut self, shell: bool) -> Line {
        match self.below(24) {
            20 | 21 => self.heredoc(shell),
            22 | 23 if !self.avoid.contains_key(&Feature::Url) => self.fetch(),
            0..=6 => self.copy("COPY"),
            7 | 8 => self.copy("ADD"),
            9..=13 if shell => {
                let count = 1 + self.below(4);
                let commands: Vec<String> = (0..count).map(|_| self.command()).collect();
                if self.has(Feature::Mount, 3) { self.mounted(commands) } else { Line::Run { mounts: Vec::new(), commands } }
            }
            14 | 15 => Line::Plain(format!("WORKDIR {}", self.place())),
            16 => Line::Plain(format!("USER {}", self.of(&["app", "0", "1000:50", "root", "app:staff", "4242"]))),
            _ => self.setting(shell),
        }
    }

    fn setting(&mut self, shell: bool) -> Line {
        let text = match self.below(16) {
            12 => "SHELL [\"/bin/sh\", \"-ec\"]".to_owned(),
            13 => "ONBUILD RUN echo triggered > /tmp/triggered".to_owned(),
            14 => format!("ONBUILD COPY {} /tmp/", self.name()),
            15 if shell => "RUN [\"/bin/sh\", \"-c\", \"umask 027; echo $A > /tmp/exec\"]".to_owned(),
            0 => "ENV P=/a Q=\"two words\"".to_owned(),
            1 => "ENV P ${P:-/d}/x".to_owned(),
            2 => "ARG A".to_owned(),
            3 => "ARG A=own B=${A}2".to_owned(),
            4 => "LABEL k=v \"l\"='$A' m=${P}".to_owned(),
            5 => "EXPOSE 80 53/udp 100-102".to_owned(),
            6 => "VOLUME /v /w".to_owned(),
            7 => "CMD [\"a\", \"$P\"]".to_owned(),
            8 => "ENTRYPOINT run $P".to_owned(),
            9 => "STOPSIGNAL SIGINT".to_owned(),
            10 => "HEALTHCHECK --interval=5s --retries=2 CMD true".to_owned(),
            _ => "CMD echo hello".to_owned(),
        };
        Line::Plain(text)
    }

    /// Mounts, and commands that look at them and write into them.
    fn mounted(&mut self, mut commands: Vec<String>) -> Line {
        let count = 1 + self.below(2);
        let mut mounts = Vec::new();
        for number in 0..count {
            let place = MOUNT_PLACES[(self.below(4) * 2 + number) % MOUNT_PLACES.len()];
            let mount = match self.below(6) {
                0 | 1 => self.bind(place),
                2 | 3 => {
                    let more = self.of(&["", ",mode=0700", ",uid=1000,gid=50", ",sharing=locked", ",ro"]);
                    format!("type=cache,id=c{}-{number},target={place}{more}", self.seed)
                }
                4 => format!("type=tmpfs,target={place}"),
                _ => {
                    let more = self.of(&["", ",mode=0440", ",uid=1000,gid=50", ",required"]);
                    let at = if self.one_in(2) { format!(",target={place}/secret") } else { String::new() };
                    format!("type=secret,id=s{at}{more}")
                }
            };
            mounts.push(mount);
            // What is seen is the same at every run of the step: caches stay.
            commands.insert(0, format!("[ -e {place}/own ] || echo own > {place}/own; mkdir -p {place}/made"));
            commands.push(format!("find {place} -exec stat -c \"%n %A %u:%g %F\" {{}} \\; | sort > /tmp/seen{number}"));
        }
        commands.push("stat -c \"%a %u:%g\" /run/secrets/s > /tmp/secret; cat /run/secrets/s >> /tmp/secret".to_owned());
        Line::Run { mounts, commands }
    }

    fn bind(&mut self, place: &str) -> String {
        let from = self.stages > 0 && self.one_in(2);
        let source = match (from, self.paths.is_empty()) {
            (true, _) => self.of(&["/d", "/d/e", "/", "/file", "/l"]).to_owned(),
            (false, true) => ".".to_owned(),
            (false, false) => {
                let at = self.below(self.paths.len());
                self.paths[at].clone()
            }
        };
        let from = if from { format!(",from=s{}", self.dice.below(self.stages)) } else { String::new() };
        let writable = self.of(&["", "", ",rw"]);
        format!("type=bind{from},source={source},target={place}{writable}")
    }

    /// Something of elsewhere.
    fn fetch(&mut self) -> Line {
        let mut head = "ADD".to_owned();
        if self.one_in(3) {
            head += &format!(" --chown={}", self.of(&OWNERS));
        }
        if self.one_in(3) {
            head += &format!(" --chmod={}", self.of(&CHMODS));
        }
        if self.has(Feature::Link, 5) {
            head += " --link";
        }
        let mut sources = vec![self.of(&served::FILES).to_owned()];
        if self.has(Feature::Git, 2) {
            sources = vec![self.of(&served::REPOSITORIES).to_owned()];
        } else if self.has(Feature::Checksum, 4) {
            head += &format!(" --checksum={}", self.of(&served::CHECKSUMS));
        } else if self.one_in(4) {
            let source = self.source("ADD", false);
            sources.push(source);
        }
        let to = if self.one_in(2) { format!("{}/", self.place().trim_end_matches('/')) } else { self.place() };
        Line::Copy { head, sources, to }
    }

    /// A script of several commands, with the shell's or its own interpreter.
    fn script(&mut self) -> Line {
        let quote = self.of(&["", "'"]);
        let interpreter = self.of(&["", "", "#!/bin/sh\n", "#!/bin/busybox sh\n"]);
        let count = 1 + self.below(3);
        let commands: String = (0..count).map(|_| self.command() + "\n").collect();
        Line::Plain(format!("RUN <<{quote}EOF{quote}\n{interpreter}exec 2>/dev/null\n{commands}true\nEOF"))
    }

    fn heredoc(&mut self, shell: bool) -> Line {
        if shell && self.has(Feature::RunHeredoc, 2) {
            return self.script();
        }
        if self.avoid.contains_key(&Feature::CopyHeredoc) {
            return Line::Plain("LABEL heredoc=unknown".to_owned());
        }
        if self.one_in(4) {
            return Line::Plain(format!("COPY <<one <<-two {}/\nfirst $A\none\n\tsecond\n\ttwo", self.place().trim_end_matches('/')));
        }
        let quote = self.of(&["", "", "'"]);
        let flags = self.of(&["", "", "--chmod=700 ", "--chown=app "]);
        let text = self.of(&["plain", "$A and ${P:-none}", "a \\$A \"quoted\" 'single'", "", "tab\there"]);
        Line::Plain(format!("COPY {flags}<<{quote}EOF{quote} {}\n{text}\nEOF", self.place()))
    }

    fn place(&mut self) -> String {
        match self.below(8) {
            0 => self.path(),
            1 => "$P/z".to_owned(),
            2 => ".".to_owned(),
            _ => self.of(&PLACES).to_owned(),
        }
    }

    fn copy(&mut self, word: &str) -> Line {
        let mut head = word.to_owned();
        let from = word == "COPY" && self.stages > 0 && self.one_in(2);
        if from {
            head += &format!(" --from=s{}", self.dice.below(self.stages));
        }
        if self.one_in(4) {
            head += &format!(" --chown={}", self.of(&OWNERS));
        }
        if self.one_in(5) {
            head += &format!(" --chmod={}", self.of(&CHMODS));
        }
        // Of two names: whether one alone leaves out the source itself is a known difference.
        if self.has(Feature::Exclude, 8) {
            head += &format!(" --exclude={}", self.of(&["*/b", "a/c", "*/*/d", "c*/e"]));
        }
        if self.has(Feature::Link, 5) {
            head += " --link";
        }
        if word == "COPY" && self.has(Feature::Parents, 5) {
            head += " --parents";
        }
        let count = if self.one_in(3) { 2 } else { 1 };
        let sources = (0..count).map(|_| self.source(word, from)).collect();
        let to = if count > 1 && !self.one_in(4) { format!("{}/", self.place().trim_end_matches('/')) } else { self.place() };
        Line::Copy { head, sources, to }
    }

    fn source(&mut self, word: &str, from: bool) -> String {
        if from {
            return self.of(&["/d", "/d/e", "/l", "/l/", "/file", "/h*", "/[a-d]", "/d/*", "/rel", "/suid", "/tmp", "/x*", "/d/../d/a", "/d/b"]).to_owned();
        }
        if word == "ADD" && self.one_in(2) && self.paths.iter().any(|path| path == "t.tar") {
            return "t.tar".to_owned();
        }
        match self.below(10) {
            0 => "*".to_owned(),
            1 => format!("{}*", self.name()),
            2 => "*/*".to_owned(),
            3 => "[a-c]".to_owned(),
            4 => ".".to_owned(),
            // A place after which --parents keeps what is above.
            6 if self.one_in(3) => format!("{}/./{}", self.name(), self.name()),
            5 if self.one_in(4) => self.path(),
            _ if self.paths.is_empty() => ".".to_owned(),
            _ => {
                let at = self.below(self.paths.len());
                self.paths[at].clone()
            }
        }
    }

    /// A command; one that opens a pipe for writing would wait for a reader.
    fn command(&mut self) -> String {
        let place = self.of(&PLACES).trim_end_matches('/').to_owned();
        let other = self.of(&PLACES).trim_end_matches('/').to_owned();
        match self.below(17) {
            0 => format!("mkdir -p {place}"),
            1 => format!("rm -rf {place}"),
            2 => format!("rm -rf {place} && mkdir -p {place} && echo new > {place}/n"),
            3 => format!("[ -p {place} ] || echo {} > {place}", self.below(1000)),
            4 => format!("[ -p {place} ] || echo more >> {place}"),
            5 => format!("ln -s {} {place}", self.of(&TARGETS)),
            6 => format!("ln {other} {place}"),
            7 => format!("chmod {} {place}", self.of(&CHMODS)),
            8 => format!("chown {} {place}", self.of(&["1000:1001", "5", "app:staff"])),
            9 => format!("mv {place} {other}"),
            10 => format!("rm -f {place}; mkfifo {place}"),
            11 => format!("[ -p {place} ] || cp -a {other} {place}"),
            12 => format!("mkdir -p {place}/in/side; touch {place}/in/side/f"),
            13 => format!("rm -f {place}; ln -s {} {place}", self.of(&TARGETS)),
            14 => format!("rm -rf {place}; echo file > {place}"),
            15 => format!("[ -p {place} ] || echo \"$A $P $(id -u):$(id -g) $(pwd)\" > {place}"),
            _ => format!("touch {place}"),
        }
    }
}
