//! Instructions that only change the configuration or the variables.

use strake_dockerfile::{Argument, Command, CommandLine, Healthcheck, Pairs, Text, expand_words};
use strake_oci::Empty;
use strake_source::nearest;

use crate::stage::StageLowering;
use crate::{history, ports, scope};

/// Signal names without SIG (signal(7)); RTMIN and RTMAX have variants of their own.
const SIGNALS: [&str; 36] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT",
    "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
];

impl StageLowering<'_, '_> {
    /// Applies an instruction that makes no layer.
    pub(crate) fn configure(&mut self, command: &Command) -> Option<()> {
        match command {
            Command::Arg(arguments) => self.arg(arguments),
            Command::Cmd(line) => self.cmd(line),
            Command::Entrypoint(line) => self.entrypoint(line),
            Command::Env(pairs) => self.env(pairs),
            Command::Expose(words) => self.expose(words),
            Command::Healthcheck(check) => self.healthcheck(check),
            Command::Label(pairs) => self.label(pairs),
            Command::Maintainer(author) => {
                self.state.config.author.clone_from(&author.value);
                self.record(format!("MAINTAINER {}", author.value), true);
                Some(())
            }
            Command::Onbuild(onbuild) => {
                self.state.config.config.on_build.push(onbuild.text.clone());
                Some(())
            }
            Command::Shell(words) => {
                let shell: Vec<String> = words.iter().map(|word| word.value.clone()).collect();
                self.record(format!("SHELL [{}]", shell.join(" ")), true);
                self.state.config.config.shell = shell;
                Some(())
            }
            Command::Stopsignal(signal) => self.stopsignal(signal),
            Command::User(user) => {
                let user = self.expand(user)?;
                self.record(format!("USER {user}"), true);
                self.state.config.config.user = user;
                Some(())
            }
            Command::Volume(words) => self.volume(words),
            _ => Some(()),
        }
    }

    /// Each word sees those before it. A given build argument wins over the default, the default over the global scope.
    fn arg(&mut self, arguments: &[Argument]) -> Option<()> {
        let mut shown = Vec::new();
        for argument in arguments {
            let name = argument.name.value.as_str();
            let request = self.lowering.request;
            let value = match (scope::build_arg(request, name), &argument.default) {
                (Some(given), _) => Some(given.to_owned()),
                (None, Some(default)) => Some(self.expand(default)?),
                (None, None) => self.lowering.graph.globals.get(name).map(str::to_owned),
            };
            shown.push(match &value {
                Some(value) => format!("{name}={value}"),
                None => name.to_owned(),
            });
            if let Some(value) = &value {
                self.state.environment.set(name, value);
            }
            match self.state.args.iter_mut().find(|(known, _)| known == name) {
                Some(known) => known.1 = value,
                None => self.state.args.push((name.to_owned(), value)),
            }
        }
        self.record(format!("ARG {}", shown.join(" ")), true);
        Some(())
    }

    /// Keys and values of one line, all expanded before any takes effect.
    fn pairs(&mut self, pairs: &Pairs) -> Option<Vec<(String, String)>> {
        let mut expanded = Vec::new();
        for pair in &pairs.pairs {
            let (key, value) = (self.expand(&pair.key)?, self.expand(&pair.value)?);
            if key.is_empty() {
                self.error("instruction-arguments", format!("the name `{}` is blank once expanded", pair.key.value), pair.key.span);
                return None;
            }
            expanded.push((key, value));
        }
        Some(expanded)
    }

    fn env(&mut self, pairs: &Pairs) -> Option<()> {
        let pairs = self.pairs(pairs)?;
        for (name, value) in &pairs {
            self.state.environment.set(name, value);
            let prefix = format!("{name}=");
            let pair = format!("{name}={value}");
            let env = &mut self.state.config.config.env;
            match env.iter_mut().find(|known| known.starts_with(&prefix)) {
                Some(known) => *known = pair,
                None => env.push(pair),
            }
        }
        self.record(format!("ENV {}", joined(&pairs)), true);
        Some(())
    }

    fn label(&mut self, pairs: &Pairs) -> Option<()> {
        let pairs = self.pairs(pairs)?;
        self.record(format!("LABEL {}", joined(&pairs)), true);
        self.state.config.config.labels.extend(pairs);
        Some(())
    }

    /// The program and its arguments, and `None` for an empty list: both forms.
    fn command_line(&self, line: &CommandLine) -> Vec<String> {
        match line {
            CommandLine::Shell(text) => self.state.in_shell(&text.value),
            CommandLine::Exec(words) => words.iter().map(|word| word.value.clone()).collect(),
        }
    }

    fn cmd(&mut self, line: &CommandLine) -> Option<()> {
        let args = self.command_line(line);
        self.record(format!("CMD {}", history::quoted_list(&args)), true);
        let config = &mut self.state.config.config;
        config.cmd = (!args.is_empty()).then_some(args);
        config.args_escaped = true;
        self.state.cmd_set = true;
        Some(())
    }

    fn entrypoint(&mut self, line: &CommandLine) -> Option<()> {
        let args = self.command_line(line);
        self.record(format!("ENTRYPOINT {}", history::quoted_list(&args)), true);
        let config = &mut self.state.config.config;
        config.entrypoint = (!args.is_empty()).then_some(args);
        config.args_escaped = true;
        if !self.state.cmd_set {
            config.cmd = None;
        }
        Some(())
    }

    fn expose(&mut self, words: &[Text]) -> Option<()> {
        let mut expanded = Vec::new();
        for word in words {
            let lookup = |name: &str| self.state.environment.get(name).map(str::to_owned);
            match expand_words(&word.value, &lookup, self.escape()) {
                Ok((parts, unmatched)) => {
                    self.warn_unmatched(&unmatched, word.span);
                    expanded.extend(parts.into_iter().map(|part| (part, word.span)));
                }
                Err(error) => return self.cannot_expand(&error, word.span),
            }
        }
        expanded.sort_by(|a, b| a.0.cmp(&b.0));
        let mut keys = Vec::new();
        for (word, span) in expanded {
            match ports::read(&word) {
                Ok(ports) => {
                    if ports.host {
                        self.warn(
                            "ExposeInvalidFormat",
                            format!("EXPOSE `{word}`: an address or host port means nothing in an image"),
                            span,
                            "write only the port",
                        );
                    }
                    if ports.capitals {
                        self.warn("ExposeProtoCasing", format!("EXPOSE `{word}`: the protocol should be in lower case"), span, "write it in lower case");
                    }
                    keys.extend(ports.keys);
                }
                Err(message) => {
                    self.error("expose", message, span);
                    return None;
                }
            }
        }
        self.record(format!("EXPOSE [{}]", keys.join(" ")), true);
        self.state.config.config.exposed_ports.extend(keys.into_iter().map(|key| (key, Empty {})));
        Some(())
    }

    fn volume(&mut self, words: &[Text]) -> Option<()> {
        let volumes = self.expand_all(words)?;
        if let Some(index) = volumes.iter().position(String::is_empty) {
            self.error("instruction-arguments", "VOLUME specified can not be an empty string", words[index].span);
            return None;
        }
        self.record(format!("VOLUME [{}]", volumes.join(" ")), true);
        self.state.config.config.volumes.extend(volumes.into_iter().map(|volume| (volume, Empty {})));
        Some(())
    }

    fn stopsignal(&mut self, text: &Text) -> Option<()> {
        let signal = self.expand(text)?;
        let upper = signal.to_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let real_time =
            ["RTMIN+", "RTMAX-"].iter().filter_map(|prefix| name.strip_prefix(prefix)).any(|number| number.parse::<u8>().is_ok_and(|number| number <= 15));
        let number = signal.parse::<u32>().ok();
        if number.is_none_or(|number| number == 0) && !SIGNALS.contains(&name) && !real_time {
            let near = nearest(name, SIGNALS).map(|near| format!(" (did you mean SIG{near}?)")).unwrap_or_default();
            self.error("stopsignal", format!("invalid signal: {signal}{near}"), text.span);
            return None;
        }
        self.record(format!("STOPSIGNAL {signal}"), true);
        self.state.config.config.stop_signal = signal;
        Some(())
    }

    fn healthcheck(&mut self, check: &Healthcheck) -> Option<()> {
        let test = match &check.command {
            None => vec!["NONE".to_owned()],
            Some(CommandLine::Shell(text)) => vec!["CMD-SHELL".to_owned(), text.value.clone()],
            Some(CommandLine::Exec(words)) => std::iter::once("CMD".to_owned()).chain(words.iter().map(|word| word.value.clone())).collect(),
        };
        let check = strake_oci::Healthcheck {
            test,
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        };
        self.record(history::healthcheck(&check), true);
        self.state.config.config.healthcheck = Some(check);
        Some(())
    }
}

fn joined(pairs: &[(String, String)]) -> String {
    let shown: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
    shown.join(" ")
}
