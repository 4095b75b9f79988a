//! Third pass: what stands behind the keyword and the flags, by keyword.

use std::ops::Range;

use strake_source::{Diagnostic, Span, nearest};
use strake_words::GoDuration;

use crate::ast::{Argument, Command, CommandLine, Copy, From, Healthcheck, Instruction, Onbuild, Pair, Pairs, Run, Source, Text};
use crate::flags::{Flags, mount};
use crate::grammar;
use crate::lines::Logical;

/// The keywords of the language.
pub const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Reads one logical line.
pub(crate) fn instruction(logical: &Logical, escape: char, diagnostics: &mut Vec<Diagnostic>) -> Option<Instruction> {
    let parts = grammar::instruction(&logical.text)?;
    let keyword = logical.text_at(parts.keyword.start, parts.keyword.end);
    let upper = keyword.value.to_uppercase();
    let flags = Flags::read(&upper, logical, if KEYWORDS.contains(&upper.as_str()) { &parts.flags } else { &[] }, diagnostics);
    let start = logical.span(0, 0).start;
    let span = Span { start, end: u32::try_from(logical.end).unwrap_or(u32::MAX), ..keyword.span };
    let mut reader = Reader { logical, rest: parts.rest, flags, escape, keyword: &keyword, name: &upper, diagnostics };
    let command = reader.command().unwrap_or(Command::Invalid);
    Some(Instruction { span, line: logical.line, text: logical.text.clone(), comments: logical.comments.clone(), command, keyword })
}

struct Reader<'a> {
    logical: &'a Logical,
    rest: Range<usize>,
    flags: Flags,
    escape: char,
    keyword: &'a Text,
    name: &'a str,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl Reader<'_> {
    fn command(&mut self) -> Option<Command> {
        Some(match self.name {
            "ADD" => Command::Add(self.copy()?),
            "ARG" => Command::Arg(self.arg()?),
            "CMD" => Command::Cmd(self.command_line()?),
            "COPY" => Command::Copy(self.copy()?),
            "ENTRYPOINT" => Command::Entrypoint(self.command_line()?),
            "ENV" => Command::Env(self.pairs()?),
            "EXPOSE" => Command::Expose(self.expose()?),
            "FROM" => Command::From(self.from()?),
            "HEALTHCHECK" => Command::Healthcheck(self.healthcheck()?),
            "LABEL" => Command::Label(self.pairs()?),
            "MAINTAINER" => Command::Maintainer(self.single()?),
            "ONBUILD" => Command::Onbuild(self.onbuild()?),
            "RUN" => Command::Run(self.run()?),
            "SHELL" => Command::Shell(self.shell()?),
            "STOPSIGNAL" => Command::Stopsignal(self.single()?),
            "USER" => Command::User(self.single()?),
            "VOLUME" => Command::Volume(self.volume()?),
            "WORKDIR" => Command::Workdir(self.single()?),
            _ => {
                let near = nearest(&self.keyword.value, KEYWORDS).map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
                self.error("unknown-instruction", format!("unknown instruction: {}{near}", self.keyword.value), self.keyword.span);
                return None;
            }
        })
    }

    fn error(&mut self, code: &'static str, message: impl Into<String>, span: Span) {
        self.diagnostics.push(Diagnostic::error(code, message).at(span));
    }

    /// Reports wrong arguments of the whole instruction.
    fn wrong<T>(&mut self, message: impl Into<String>) -> Option<T> {
        let span = if self.rest.is_empty() { self.keyword.span } else { self.rest_text().span };
        self.error("instruction-arguments", message, span);
        None
    }

    fn rest_str(&self) -> &str {
        &self.logical.text[self.rest.clone()]
    }

    fn rest_text(&self) -> Text {
        self.at(self.rest.clone())
    }

    fn at(&self, range: Range<usize>) -> Text {
        self.logical.text_at(range.start, range.end)
    }

    /// A range of the rest as a range of the line.
    fn shifted(&self, range: &Range<usize>) -> Range<usize> {
        self.rest.start + range.start..self.rest.start + range.end
    }

    fn words(&self) -> Vec<Text> {
        grammar::plain_words(self.rest_str()).iter().map(|word| self.at(self.shifted(word))).collect()
    }

    /// The JSON array that the rest is, if it is one. An array with something other than text is an error.
    fn json(&mut self) -> Result<Option<Vec<Text>>, ()> {
        match grammar::json_array(self.rest_str()) {
            None => Ok(None),
            Some(Err(())) => {
                self.wrong::<()>(format!("only string type is allowed in JSON format of {}", self.name));
                Err(())
            }
            Some(Ok(strings)) => {
                let place = |range: Range<usize>| self.logical.span(self.rest.start + range.start, self.rest.start + range.end);
                Ok(Some(strings.into_iter().map(|(value, range)| Text::new(value, place(range))).collect()))
            }
        }
    }

    fn command_line(&mut self) -> Option<CommandLine> {
        match self.json().ok()? {
            Some(array) => Some(CommandLine::Exec(array)),
            None => Some(CommandLine::Shell(self.rest_text())),
        }
    }

    fn single(&mut self) -> Option<Text> {
        if self.rest.is_empty() {
            return self.wrong(format!("{} requires exactly one argument", self.name));
        }
        Some(self.rest_text())
    }

    fn from(&mut self) -> Option<From> {
        let words = self.words();
        let (image, as_keyword, name) = match words.as_slice() {
            [image] => (image, None, None),
            [image, keyword, name] if keyword.value.eq_ignore_ascii_case("as") => (image, Some(keyword.clone()), Some(name.clone())),
            _ => return self.wrong("FROM requires either one or three arguments: FROM IMAGE, or FROM IMAGE AS NAME"),
        };
        if let Some(name) = &name {
            let mut chars = name.value.chars();
            let starts = chars.next().is_some_and(|first| first.is_ascii_alphabetic());
            if !starts || !chars.all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
                let message = format!("invalid name for build stage: `{}`, name can't start with a number or contain symbols", name.value);
                self.error("stage-name", message, name.span);
            }
        }
        Some(From { platform: self.flags.text("platform"), image: image.clone(), name: name.map(|name| name.map(|name| name.to_lowercase())), as_keyword })
    }

    fn arg(&mut self) -> Option<Vec<Argument>> {
        let words = grammar::quoted_words(self.rest_str(), self.escape);
        if words.is_empty() {
            return self.wrong("ARG requires at least one argument");
        }
        let mut arguments = Vec::new();
        for word in words {
            let word = self.shifted(&word);
            let text = &self.logical.text[word.clone()];
            let (name, default) = match text.find('=') {
                Some(equals) => (word.start..word.start + equals, Some(word.start + equals + 1..word.end)),
                None => (word.clone(), None),
            };
            if name.is_empty() {
                return self.wrong("ARG names can not be blank");
            }
            arguments.push(Argument { name: self.at(name), default: default.map(|range| self.at(range)) });
        }
        Some(arguments)
    }

    fn pairs(&mut self) -> Option<Pairs> {
        let words = grammar::quoted_words(self.rest_str(), self.escape);
        let Some(first) = words.first() else { return self.wrong(format!("{} requires at least one argument", self.name)) };
        if !self.rest_str()[first.clone()].contains('=') {
            return self.legacy_pair();
        }
        let mut pairs = Vec::new();
        for word in words {
            let word = self.shifted(&word);
            let text = &self.logical.text[word.clone()];
            let Some(equals) = text.find('=') else {
                let (message, span) = (format!("can't find = in \"{text}\": must be of the form name=value"), self.at(word).span);
                self.error("instruction-arguments", message, span);
                return None;
            };
            if equals == 0 {
                return self.wrong(format!("{} names can not be blank", self.name));
            }
            pairs.push(Pair { key: self.at(word.start..word.start + equals), value: self.at(word.start + equals + 1..word.end) });
        }
        Some(Pairs { pairs, legacy: false })
    }

    fn legacy_pair(&mut self) -> Option<Pairs> {
        let rest = self.rest_str();
        let key = rest.len() - rest.trim_start_matches(|c: char| !c.is_whitespace()).len();
        let value = key + rest[key..].len() - rest[key..].trim_start().len();
        if value == rest.len() {
            return self.wrong(format!("{} must have two arguments", self.name));
        }
        let (key, value) = (self.shifted(&(0..key)), self.shifted(&(value..rest.len())));
        Some(Pairs { pairs: vec![Pair { key: self.at(key), value: self.at(value) }], legacy: true })
    }

    fn expose(&mut self) -> Option<Vec<Text>> {
        let words = self.words();
        if words.is_empty() { self.wrong("EXPOSE requires at least one argument") } else { Some(words) }
    }

    fn volume(&mut self) -> Option<Vec<Text>> {
        let volumes = match self.json().ok()? {
            Some(array) => array,
            None => self.words(),
        };
        if volumes.is_empty() {
            return self.wrong("VOLUME requires at least one argument");
        }
        Some(volumes)
    }

    fn shell(&mut self) -> Option<Vec<Text>> {
        match self.json().ok()? {
            Some(array) if array.is_empty() => self.wrong("SHELL requires at least one argument"),
            Some(array) => Some(array),
            None => self.wrong("SHELL requires the arguments to be in JSON form: SHELL [\"/bin/sh\", \"-c\"]"),
        }
    }

    fn run(&mut self) -> Option<Run> {
        if self.rest.is_empty() {
            return self.wrong("RUN requires at least one argument");
        }
        let command = self.command_line()?;
        if matches!(&command, CommandLine::Exec(array) if array.is_empty()) {
            return self.wrong("RUN requires at least one argument");
        }
        let mounts = self.flags.texts("mount").iter().map(|flag| mount(flag, self.diagnostics)).collect();
        let (network, security) = (self.flags.text("network"), self.flags.text("security"));
        if let Some(network) = network.as_ref().filter(|network| !matches!(network.value.as_str(), "default" | "none" | "host")) {
            self.error("flag-value", format!("invalid network mode: `{}`; expected default, none or host", network.value), network.span);
        }
        if let Some(security) = security.as_ref().filter(|security| !matches!(security.value.as_str(), "sandbox" | "insecure")) {
            self.error("flag-value", format!("security `{}` is not valid; expected sandbox or insecure", security.value), security.span);
        }
        Some(Run { mounts, network, security, devices: self.flags.texts("device"), command, heredocs: self.logical.heredocs.clone() })
    }

    fn copy(&mut self) -> Option<Copy> {
        let array = self.json().ok()?;
        let json = array.is_some();
        let mut words = array.unwrap_or_else(|| self.words());
        if words.len() < 2 {
            let found = if words.is_empty() { "but none were provided" } else { "but only one was provided. Destination could not be determined" };
            return self.wrong(format!("{} requires at least two arguments, {found}", self.name));
        }
        let dest = words.pop()?;
        let marks = &self.logical.heredocs;
        if !json && marks.iter().any(|heredoc| heredoc.span.end >= dest.span.end) {
            return self.wrong(format!("{} cannot accept a heredoc as a destination", self.name));
        }
        let mut sources = Vec::new();
        for word in words {
            match marks.iter().find(|heredoc| heredoc.span.start <= word.span.start && word.span.end <= heredoc.span.end) {
                None => sources.push(Source::Path(word)),
                // A mark with a blank in it is several words: its first one stands for all.
                Some(heredoc) if heredoc.span.start == word.span.start => sources.push(Source::Heredoc(heredoc.clone())),
                Some(_) => {}
            }
        }
        if let Some(from) = self.flags.text("from").filter(|from| from.value.contains('$')) {
            self.error("flag-value", "variables are not expanded in --from", from.span);
        }
        let flags = &self.flags;
        Some(Copy {
            from: flags.text("from"),
            chown: flags.text("chown"),
            chmod: flags.text("chmod"),
            link: flags.bool("link").unwrap_or_default(),
            parents: flags.bool("parents").unwrap_or_default(),
            exclude: flags.texts("exclude"),
            keep_git_dir: flags.bool("keep-git-dir"),
            checksum: flags.text("checksum"),
            unpack: flags.bool("unpack"),
            sources,
            dest,
            json,
        })
    }

    fn healthcheck(&mut self) -> Option<Healthcheck> {
        let rest = self.rest_str();
        let word = rest.len() - rest.trim_start_matches(|c: char| !c.is_whitespace()).len();
        let kind = rest[..word].to_uppercase();
        let body = self.rest.start + word + (rest[word..].len() - rest[word..].trim_start().len());
        let command = match kind.as_str() {
            "" => return self.wrong("HEALTHCHECK requires at least one argument: NONE, or CMD and a command"),
            "NONE" if body < self.rest.end => return self.wrong("HEALTHCHECK NONE takes no arguments"),
            "NONE" => None,
            "CMD" if body == self.rest.end => return self.wrong("missing command after HEALTHCHECK CMD"),
            "CMD" => {
                self.rest.start = body;
                let command = self.command_line()?;
                if matches!(&command, CommandLine::Exec(array) if array.is_empty()) {
                    return self.wrong("missing command after HEALTHCHECK CMD");
                }
                Some(command)
            }
            other => return self.wrong(format!("unknown type \"{other}\" in HEALTHCHECK (try CMD)")),
        };
        Some(Healthcheck {
            interval: self.duration("interval"),
            timeout: self.duration("timeout"),
            start_period: self.duration("start-period"),
            start_interval: self.duration("start-interval"),
            retries: self.retries(),
            command,
        })
    }

    fn duration(&mut self, name: &str) -> i64 {
        let Some(text) = self.flags.text(name) else { return 0 };
        let message = match GoDuration::parse(&text.value) {
            Ok(duration) if duration.nanos == 0 || duration.nanos >= 1_000_000 => return duration.nanos,
            Ok(_) => format!("--{name} cannot be less than 1ms"),
            Err(error) => error.to_string(),
        };
        self.error("flag-value", message, text.span);
        0
    }

    fn retries(&mut self) -> i64 {
        let Some(text) = self.flags.text("retries") else { return 0 };
        match text.value.parse::<i32>() {
            Ok(retries) if retries >= 0 => i64::from(retries),
            _ => {
                self.error("flag-value", format!("--retries `{}` is not a whole number from 0", text.value), text.span);
                0
            }
        }
    }

    fn onbuild(&mut self) -> Option<Onbuild> {
        if self.rest.is_empty() {
            return self.wrong("ONBUILD requires at least one argument");
        }
        let tail = self.logical.tail(self.rest.start);
        let trigger = instruction(&tail, self.escape, self.diagnostics)?;
        match trigger.command {
            Command::Onbuild(_) => return self.wrong("chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
            Command::From(_) | Command::Maintainer(_) => {
                return self.wrong(format!("{} isn't allowed as an ONBUILD trigger", trigger.command.name()));
            }
            _ => {}
        }
        let mut text = tail.text.clone();
        for heredoc in &tail.heredocs {
            text.push('\n');
            text.push_str(&heredoc.raw);
            text.push_str(&heredoc.name);
        }
        Some(Onbuild { text, trigger: Box::new(trigger) })
    }
}
