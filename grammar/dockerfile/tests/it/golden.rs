//! A case is a folder: `Dockerfile`, then `tree.txt` and, when there are findings, `diagnostics.txt`.

use std::fmt::Write as _;
use std::path::Path;

use strake_dockerfile::{Command, CommandLine, Copy, Heredoc, Instruction, Pairs, Run, Source, Text, parse};
use strake_source::{Sources, Span};

fn range(sources: &Sources, span: Span) -> String {
    let file = sources.get(span.file);
    let (start, end) = (file.line_column(span.start), file.line_column(span.end));
    format!("{}:{}-{}:{}", start.line, start.column, end.line, end.column)
}

struct Dump<'s> {
    sources: &'s Sources,
    out: String,
}

impl Dump<'_> {
    fn line(&mut self, depth: usize, name: &str, value: &str) {
        writeln!(self.out, "{:1$}{name}: {value}", "", depth * 2).expect("a string takes it");
    }

    fn text(&mut self, depth: usize, name: &str, text: &Text) {
        let value = format!("{:?} @ {}", text.value, range(self.sources, text.span));
        self.line(depth, name, &value);
    }

    fn texts<'t>(&mut self, depth: usize, name: &str, texts: impl IntoIterator<Item = &'t Text>) {
        texts.into_iter().for_each(|text| self.text(depth, name, text));
    }

    fn command_line(&mut self, depth: usize, line: &CommandLine) {
        match line {
            CommandLine::Shell(text) => self.text(depth, "shell", text),
            CommandLine::Exec(words) => {
                self.line(depth, "exec", "");
                self.texts(depth + 1, "word", words);
            }
        }
    }

    fn heredoc(&mut self, depth: usize, heredoc: &Heredoc) {
        let value =
            format!("{} {:?} expand={} content={:?} @ {}", heredoc.mark, heredoc.name, heredoc.expand, heredoc.content, range(self.sources, heredoc.body));
        self.line(depth, "heredoc", &value);
    }

    fn pairs(&mut self, depth: usize, pairs: &Pairs) {
        for pair in &pairs.pairs {
            self.text(depth, if pairs.legacy { "legacy key" } else { "key" }, &pair.key);
            self.text(depth + 1, "value", &pair.value);
        }
    }

    fn copy(&mut self, depth: usize, copy: &Copy) {
        self.texts(depth, "from", &copy.from);
        self.texts(depth, "chown", &copy.chown);
        self.texts(depth, "chmod", &copy.chmod);
        self.texts(depth, "exclude", &copy.exclude);
        self.texts(depth, "checksum", &copy.checksum);
        let flags = format!("link={} parents={} keep_git_dir={:?} unpack={:?} json={}", copy.link, copy.parents, copy.keep_git_dir, copy.unpack, copy.json);
        self.line(depth, "flags", &flags);
        for source in &copy.sources {
            match source {
                Source::Path(path) => self.text(depth, "source", path),
                Source::Heredoc(heredoc) => self.heredoc(depth, heredoc),
            }
        }
        self.text(depth, "dest", &copy.dest);
    }

    fn run(&mut self, depth: usize, run: &Run) {
        for mount in &run.mounts {
            self.line(depth, "mount", &format!("{:?}", mount.options));
        }
        self.texts(depth, "network", &run.network);
        self.texts(depth, "security", &run.security);
        self.texts(depth, "device", &run.devices);
        self.command_line(depth, &run.command);
        run.heredocs.iter().for_each(|heredoc| self.heredoc(depth, heredoc));
        if run.script().is_some() {
            self.line(depth, "is", "one script");
        }
    }

    fn instruction(&mut self, depth: usize, instruction: &Instruction) {
        let place = range(self.sources, instruction.span);
        self.line(depth, &instruction.keyword.value, &format!("{place} line {} {:?}", instruction.line, instruction.text));
        let depth = depth + 1;
        self.texts(depth, "comment", &instruction.comments);
        match &instruction.command {
            Command::Add(copy) | Command::Copy(copy) => self.copy(depth, copy),
            Command::Arg(arguments) => {
                for argument in arguments {
                    self.text(depth, "name", &argument.name);
                    self.texts(depth + 1, "default", &argument.default);
                }
            }
            Command::Cmd(line) | Command::Entrypoint(line) => self.command_line(depth, line),
            Command::Env(pairs) | Command::Label(pairs) => self.pairs(depth, pairs),
            Command::Expose(words) | Command::Shell(words) | Command::Volume(words) => self.texts(depth, "word", words),
            Command::From(from) => {
                self.texts(depth, "platform", &from.platform);
                self.text(depth, "image", &from.image);
                self.texts(depth, "name", &from.name);
            }
            Command::Healthcheck(check) => {
                let times = [check.interval, check.timeout, check.start_period, check.start_interval, check.retries];
                self.line(depth, "times", &format!("{times:?}"));
                match &check.command {
                    Some(line) => self.command_line(depth, line),
                    None => self.line(depth, "none", ""),
                }
            }
            Command::Maintainer(text) | Command::Stopsignal(text) | Command::User(text) | Command::Workdir(text) => self.text(depth, "text", text),
            Command::Onbuild(onbuild) => {
                self.line(depth, "trigger", &format!("{:?}", onbuild.text));
                self.instruction(depth, &onbuild.trigger);
            }
            Command::Run(run) => self.run(depth, run),
            Command::Invalid => self.line(depth, "invalid", ""),
        }
    }
}

fn compare(path: &Path, found: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        if found.is_empty() {
            let _ = std::fs::remove_file(path);
        } else {
            std::fs::write(path, found).expect("the golden file can be written");
        }
        return;
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(found, expected, "{} differs (UPDATE_GOLDEN=1 accepts)", path.display());
}

#[test]
fn cases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the cases are there") {
        let case = entry.expect("an entry").path();
        let text = std::fs::read_to_string(case.join("Dockerfile")).expect("a case has a Dockerfile");
        let mut sources = Sources::default();
        let id = sources.add("Dockerfile", text.as_str());
        let (file, diagnostics) = parse(id, &text);
        let mut dump = Dump { sources: &sources, out: String::new() };
        if file.directives.escape != '\\' {
            dump.line(0, "escape", &file.directives.escape.to_string());
        }
        dump.texts(0, "syntax", &file.directives.syntax);
        dump.texts(0, "check", &file.directives.check);
        file.instructions.iter().for_each(|instruction| dump.instruction(0, instruction));
        let mut findings = String::new();
        for finding in &diagnostics {
            let place = finding.span.map(|span| range(&sources, span)).unwrap_or_default();
            writeln!(findings, "{:?}[{}] {place}: {}", finding.severity, finding.code.0, finding.message).expect("a string takes it");
            for help in &finding.help {
                writeln!(findings, "  help: {help}").expect("a string takes it");
            }
        }
        compare(&case.join("tree.txt"), &dump.out);
        compare(&case.join("diagnostics.txt"), &findings);
        count += 1;
    }
    assert!(count >= 20, "the cases were found");
}
