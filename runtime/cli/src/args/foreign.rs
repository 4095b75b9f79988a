//! Flags of `docker build` and `docker buildx build` that strake does not have. They are read, so that each is refused by its name and with the reason, and so
//! that one which asks for what strake does anyway is no error.

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::failure::Failure;

/// A flag, and what is said of it.
struct Flag {
    long: &'static str,
    short: Option<char>,
    /// It takes a value; otherwise it is `true` or `false`.
    valued: bool,
    /// The values with which it asks for what happens anyway.
    fine: &'static [&'static str],
    why: &'static str,
}

const fn valued(long: &'static str, fine: &'static [&'static str], why: &'static str) -> Flag {
    Flag { long, short: None, valued: true, fine, why }
}

const fn switch(long: &'static str, fine: &'static [&'static str], why: &'static str) -> Flag {
    Flag { long, short: None, valued: false, fine, why }
}

const BUILDER: &str = "strake builds in its own process and has no builders to choose from; leave it out";
const RESOURCE: &str = "it is --resource now, as in --resource memory=512m --resource cpu-quota=50000";
const CPUSET: &str = "RUNs are not bound to processors: limit their time with --resource cpu-quota=MICROSECONDS, or bind strake itself with taskset";
const DEBUGGER: &str = "strake has no debugger server: --on-error shell opens a shell in a failed RUN, --debug-step in any step";

/// Every flag of docker buildx build 0.36, and of docker build before it, that is not one of `strake build`.
const FLAGS: &[Flag] = &[
    valued("builder", &["", "default"], BUILDER),
    valued("policy", &[], "policies in Rego are not evaluated, and one that is not must not seem to hold; --locked holds base images by digest"),
    Flag { short: Some('m'), ..valued("memory", &[], RESOURCE) },
    valued("memory-swap", &[], RESOURCE),
    Flag { short: Some('c'), ..valued("cpu-shares", &[], RESOURCE) },
    valued("cpu-period", &[], RESOURCE),
    valued("cpu-quota", &[], RESOURCE),
    valued("cpuset-cpus", &[], CPUSET),
    valued("cpuset-mems", &[], CPUSET),
    valued("isolation", &["", "default"], "there is one way to run a step on Linux: a container"),
    valued("security-opt", &[], "every RUN has the default filter; one with RUN --security=insecure has none, and is allowed by --allow security.insecure"),
    switch("squash", &["false"], "layers are not squashed: end with a stage `FROM scratch` and COPY --from=… / /"),
    // There is no daemon that a context is sent to, and what a step's container was is always removed.
    switch("compress", &["true", "false"], ""),
    switch("rm", &["true"], "what a step ran in is always removed; --on-error shell shows what a failed one left"),
    switch("force-rm", &["true", "false"], ""),
    switch("disable-content-trust", &["true"], "signatures of content trust (Notary) are not verified; --locked holds base images by digest"),
    valued("print", &[], "it is --call now, as in --call outline"),
    valued("invoke", &[], DEBUGGER),
    valued("on", &[], DEBUGGER),
    valued("server-config", &[], DEBUGGER),
    switch("detach", &[], DEBUGGER),
];

/// The flags that were given and cannot be meant: each with what is to be said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foreign {
    refused: Vec<String>,
}

impl Foreign {
    /// Says why, when there is one.
    ///
    /// # Errors
    /// The first flag, with its reason; exit code 2.
    pub fn refuse(&self) -> Result<(), Failure> {
        self.refused.first().map_or(Ok(()), |text| Err(Failure::text(text).with_code(2)))
    }
}

/// `--builder` where it is the only one.
///
/// # Errors
/// One that strake does not have.
pub fn builder(name: Option<&str>) -> Result<(), Failure> {
    match name {
        None | Some("" | "default") => Ok(()),
        Some(name) => Err(Failure::text(format!("--builder {name} is not supported: {BUILDER}")).with_code(2)),
    }
}

impl clap::Args for Foreign {
    fn augment_args(command: Command) -> Command {
        FLAGS.iter().fold(command, |command, flag| {
            let arg = Arg::new(flag.long).long(flag.long).hide(true).action(ArgAction::Append);
            let arg = if flag.valued { arg } else { arg.num_args(0..=1).require_equals(true).default_missing_value("true") };
            command.arg(match flag.short {
                Some(short) => arg.short(short),
                None => arg,
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Foreign {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut refused = Vec::new();
        for flag in FLAGS {
            let values = matches.get_many::<String>(flag.long).into_iter().flatten();
            for value in values.filter(|value| !flag.fine.contains(&value.as_str())) {
                let shown = if flag.valued { format!("--{} {value}", flag.long) } else { format!("--{}={value}", flag.long) };
                let why = if flag.why.is_empty() { "expected true or false" } else { flag.why };
                refused.push(format!("{} is not supported: {why}", shown.trim_end_matches("=true")));
            }
        }
        Ok(Foreign { refused })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::FLAGS;
    use crate::args::{Cli, Command};

    /// docker buildx build, version 0.36: every flag by its long name.
    const BUILDX: &[&str] = &[
        "add-host",
        "allow",
        "annotation",
        "attest",
        "build-arg",
        "build-context",
        "builder",
        "cache-from",
        "cache-to",
        "call",
        "cgroup-parent",
        "check",
        "debug",
        "file",
        "iidfile",
        "label",
        "load",
        "metadata-file",
        "network",
        "no-cache",
        "no-cache-filter",
        "output",
        "platform",
        "policy",
        "progress",
        "provenance",
        "pull",
        "push",
        "quiet",
        "resource",
        "sbom",
        "secret",
        "shm-size",
        "ssh",
        "tag",
        "target",
        "ulimit",
    ];

    #[test]
    fn every_flag_of_buildx_is_known() {
        let cli = <Cli>::command();
        let build = cli.find_subcommand("build").expect("a command");
        for flag in BUILDX {
            let found = build.get_arguments().find(|arg| arg.get_long() == Some(*flag)).unwrap_or_else(|| panic!("--{flag} is unknown"));
            assert_eq!(found.is_hide_set(), FLAGS.iter().any(|known| known.long == *flag), "--{flag} is either supported or refused by name");
        }
    }

    #[test]
    fn what_is_refused_is_refused_by_name_and_what_happens_anyway_is_not() {
        let refusal = |words: &[&str]| {
            let words = [&["strake", "build"], words, &["."]].concat();
            let Command::Build(build) = Cli::try_parse_from(words).expect("understood").command else { panic!("another command") };
            build.foreign.refuse().err().map(|failure| failure.to_string())
        };
        for flag in FLAGS {
            let value = if flag.valued { format!("--{}=surely-not", flag.long) } else { format!("--{}=odd", flag.long) };
            let text = refusal(&[&value]).unwrap_or_else(|| panic!("{value} is taken"));
            assert!(text.starts_with(&format!("--{}", flag.long)) && text.len() > 40, "{text}");
            for fine in flag.fine {
                assert_eq!(refusal(&[&format!("--{}={fine}", flag.long)]), None);
            }
        }
        for words in [&["--rm"][..], &["--force-rm"], &["--compress"], &["--builder", "default"], &[]] {
            assert_eq!(refusal(words), None, "{words:?}");
        }
        for (words, said) in [
            (&["--squash"][..], "--squash is not supported: layers are not squashed"),
            (&["--rm=false"], "--rm=false is not supported"),
            (&["-m", "512m"], "--memory 512m is not supported: it is --resource now"),
            (&["--builder", "remote"], "--builder remote is not supported"),
        ] {
            assert!(refusal(words).is_some_and(|text| text.starts_with(said)), "{words:?}");
        }
    }
}
