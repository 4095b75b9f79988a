//! The tree of a Dockerfile. Every part knows its bytes; nothing is expanded or resolved.

use strake_source::{FileId, Span, Spanned};

/// Text with its place.
pub type Text = Spanned<String>;

/// A whole Dockerfile.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    /// Which file.
    pub file: FileId,
    /// `# name=value` lines at the top.
    pub directives: Directives,
    /// The instructions in order, also those that are wrong.
    pub instructions: Vec<Instruction>,
}

/// Parser directives.
#[derive(Clone, Debug, PartialEq)]
pub struct Directives {
    /// `# syntax=`: shown, never fetched; this parser is the frontend.
    pub syntax: Option<Text>,
    /// `# escape=`: `\` or a backtick.
    pub escape: char,
    /// `# check=`.
    pub check: Option<Text>,
}

impl Default for Directives {
    fn default() -> Self {
        Directives { syntax: None, escape: '\\', check: None }
    }
}

/// One instruction.
#[derive(Clone, Debug, PartialEq)]
pub struct Instruction {
    /// From the keyword to the end of its last line, heredoc bodies included.
    pub span: Span,
    /// Its first line, from 1.
    pub line: u32,
    /// The keyword as written.
    pub keyword: Text,
    /// The instruction as one line: continuations joined, outer blanks cut, heredoc bodies left out.
    pub text: String,
    /// Lines of the comment block right above: what `--call=outline` shows and `# check=skip=` applies to.
    pub comments: Vec<Text>,
    /// What it says.
    pub command: Command,
}

/// An instruction's meaning by its keyword.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// ADD.
    Add(Copy),
    /// ARG.
    Arg(Vec<Argument>),
    /// CMD.
    Cmd(CommandLine),
    /// COPY.
    Copy(Copy),
    /// ENTRYPOINT.
    Entrypoint(CommandLine),
    /// ENV.
    Env(Pairs),
    /// EXPOSE: words before expansion.
    Expose(Vec<Text>),
    /// FROM.
    From(From),
    /// HEALTHCHECK.
    Healthcheck(Healthcheck),
    /// LABEL.
    Label(Pairs),
    /// MAINTAINER.
    Maintainer(Text),
    /// ONBUILD.
    Onbuild(Onbuild),
    /// RUN.
    Run(Run),
    /// SHELL.
    Shell(Vec<Text>),
    /// STOPSIGNAL.
    Stopsignal(Text),
    /// USER.
    User(Text),
    /// VOLUME.
    Volume(Vec<Text>),
    /// WORKDIR.
    Workdir(Text),
    /// Something that has been reported as an error.
    Invalid,
}

/// `FROM [--platform=P] IMAGE [AS NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct From {
    /// --platform, unexpanded.
    pub platform: Option<Text>,
    /// Image, stage or `scratch`, unexpanded.
    pub image: Text,
    /// The stage's name in lower case.
    pub name: Option<Text>,
    /// `AS` as written.
    pub as_keyword: Option<Text>,
}

/// A command in one of its two forms.
#[derive(Clone, Debug, PartialEq)]
pub enum CommandLine {
    /// For the shell. Empty when nothing was written.
    Shell(Text),
    /// A JSON array: program and arguments.
    Exec(Vec<Text>),
}

/// RUN.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// --mount, in order.
    pub mounts: Vec<Mount>,
    /// --network.
    pub network: Option<Text>,
    /// --security.
    pub security: Option<Text>,
    /// --device, in order.
    pub devices: Vec<Text>,
    /// What to run. The shell form keeps its heredoc marks; see [`Run::script`].
    pub command: CommandLine,
    /// Bodies in the order of their marks.
    pub heredocs: Vec<Heredoc>,
}

impl Run {
    /// The one heredoc that is the whole command (`RUN <<EOF`), when there is nothing else.
    pub fn script(&self) -> Option<&Heredoc> {
        match (&self.command, self.heredocs.as_slice()) {
            (CommandLine::Shell(line), [only]) if line.value == only.mark => Some(only),
            _ => None,
        }
    }

    /// The text a shell gets: the line, then each body with its terminator, as written.
    pub fn shell_text(&self) -> Option<String> {
        let CommandLine::Shell(line) = &self.command else { return None };
        let mut text = line.value.clone();
        for heredoc in &self.heredocs {
            text.push('\n');
            text.push_str(&heredoc.raw);
            text.push_str(&heredoc.name);
        }
        Some(text)
    }
}

/// One --mount flag: its keys are known, its values are unexpanded.
#[derive(Clone, Debug, PartialEq)]
pub struct Mount {
    /// The flag.
    pub span: Span,
    /// Keys in lower case with aliases made one (`target`, `source`, `readonly`), and values; a bare key has none.
    pub options: Vec<(String, Option<String>)>,
}

impl Mount {
    /// The value of the last option of that name. A bare key's value is empty.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_deref().unwrap_or_default())
    }
}

/// COPY and ADD.
#[derive(Clone, Debug, PartialEq)]
pub struct Copy {
    /// --from.
    pub from: Option<Text>,
    /// --chown, unexpanded.
    pub chown: Option<Text>,
    /// --chmod, unexpanded.
    pub chmod: Option<Text>,
    /// --link.
    pub link: bool,
    /// --parents.
    pub parents: bool,
    /// --exclude, in order.
    pub exclude: Vec<Text>,
    /// --keep-git-dir.
    pub keep_git_dir: Option<bool>,
    /// --checksum, unexpanded.
    pub checksum: Option<Text>,
    /// --unpack.
    pub unpack: Option<bool>,
    /// What to copy, in order.
    pub sources: Vec<Source>,
    /// Where to, unexpanded.
    pub dest: Text,
    /// Whether the arguments were a JSON array.
    pub json: bool,
}

/// What COPY copies.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A path or URL, unexpanded.
    Path(Text),
    /// A file written right here.
    Heredoc(Heredoc),
}

/// A here-document.
#[derive(Clone, Debug, PartialEq)]
pub struct Heredoc {
    /// The mark as written: `<<-"EOF"`.
    pub mark: String,
    /// The delimiter without quotes.
    pub name: String,
    /// True when the delimiter had no quotes: COPY and ADD expand variables in the body.
    pub expand: bool,
    /// The body with its last newline; leading tabs are gone for `<<-`.
    pub content: String,
    /// The body as written.
    pub raw: String,
    /// The mark's place.
    pub span: Span,
    /// The body's place.
    pub body: Span,
}

/// One word of ARG.
#[derive(Clone, Debug, PartialEq)]
pub struct Argument {
    /// Its name.
    pub name: Text,
    /// What stands behind `=`, with its quotes; `None` without `=`.
    pub default: Option<Text>,
}

/// ENV or LABEL.
#[derive(Clone, Debug, PartialEq)]
pub struct Pairs {
    /// Keys and values with their quotes.
    pub pairs: Vec<Pair>,
    /// `KEY value` without `=`.
    pub legacy: bool,
}

/// `key=value`.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// Unexpanded.
    pub key: Text,
    /// Unexpanded.
    pub value: Text,
}

/// HEALTHCHECK. Durations in nanoseconds; zero is "not given".
#[derive(Clone, Debug, PartialEq)]
pub struct Healthcheck {
    /// --interval.
    pub interval: i64,
    /// --timeout.
    pub timeout: i64,
    /// --start-period.
    pub start_period: i64,
    /// --start-interval.
    pub start_interval: i64,
    /// --retries.
    pub retries: i64,
    /// `None` for `HEALTHCHECK NONE`.
    pub command: Option<CommandLine>,
}

/// ONBUILD.
#[derive(Clone, Debug, PartialEq)]
pub struct Onbuild {
    /// The trigger as text, heredocs included: what the image's config keeps.
    pub text: String,
    /// The trigger read.
    pub trigger: Box<Instruction>,
}

impl Command {
    /// The keyword in capitals; empty for an invalid instruction.
    pub fn name(&self) -> &'static str {
        match self {
            Command::Add(_) => "ADD",
            Command::Arg(_) => "ARG",
            Command::Cmd(_) => "CMD",
            Command::Copy(_) => "COPY",
            Command::Entrypoint(_) => "ENTRYPOINT",
            Command::Env(_) => "ENV",
            Command::Expose(_) => "EXPOSE",
            Command::From(_) => "FROM",
            Command::Healthcheck(_) => "HEALTHCHECK",
            Command::Label(_) => "LABEL",
            Command::Maintainer(_) => "MAINTAINER",
            Command::Onbuild(_) => "ONBUILD",
            Command::Run(_) => "RUN",
            Command::Shell(_) => "SHELL",
            Command::Stopsignal(_) => "STOPSIGNAL",
            Command::User(_) => "USER",
            Command::Volume(_) => "VOLUME",
            Command::Workdir(_) => "WORKDIR",
            Command::Invalid => "",
        }
    }
}
