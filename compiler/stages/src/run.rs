//! RUN.

use strake_dockerfile::{self as dockerfile, CommandLine};
use strake_oci::Platform;
use strake_plan::{InlineFile, Network, Op, Run};

use crate::scope;
use crate::stage::StageLowering;

impl StageLowering<'_, '_> {
    /// Lowers RUN.
    pub(crate) fn run_command(&mut self, run: &dockerfile::Run) -> Option<()> {
        self.check_flags(run)?;
        let (args, scripts) = self.command(run);
        self.agents = 0;
        let mounts = run.mounts.iter().map(|mount| self.mount(mount)).collect::<Option<Vec<_>>>()?;
        let network = match run.network.as_ref().map(|network| network.value.as_str()) {
            Some("none") => Network::None,
            Some("host") => Network::Host,
            Some(_) => Network::Default,
            None => self.lowering.request.network,
        };
        let row = self.history_row(&args);
        let op = Run {
            parent: self.state.step,
            args,
            env: self.state.environment.pairs(),
            proxy_env: scope::proxies(self.lowering.request, &self.state.environment),
            cwd: self.state.workdir().to_owned(),
            user: self.state.config.config.user.clone(),
            mounts,
            network,
            extra_hosts: self.lowering.request.extra_hosts.clone(),
            scripts,
            platform: self.foreign_platform(),
            insecure: run.security.as_ref().is_some_and(|security| security.value == "insecure"),
            hostname: scope::build_arg(self.lowering.request, "BUILDKIT_SANDBOX_HOSTNAME").unwrap_or_default().to_owned(),
            ulimits: self.lowering.request.rules.ulimits.clone(),
            resources: self.lowering.request.rules.resources,
        };
        self.push(Op::Run(op), true);
        self.record(row, false);
        Some(())
    }

    /// The stage's platform, unless the build runs on one of its kind.
    fn foreign_platform(&self) -> Option<Platform> {
        let (platform, build) = (self.state.config.platform().normalised(), &self.lowering.request.build_platform);
        let known = !platform.os.is_empty() && !platform.architecture.is_empty();
        (known && (&platform.os, &platform.architecture) != (&build.os, &build.architecture)).then_some(platform)
    }

    /// What the one who runs the build must allow, and what is not there at all.
    fn check_flags(&mut self, run: &dockerfile::Run) -> Option<()> {
        let rules = &self.lowering.request.rules;
        let insecure = run.security.as_ref().filter(|security| security.value == "insecure" && !rules.insecure);
        let host = run.network.as_ref().filter(|network| network.value == "host" && !rules.host_network);
        let refused = [(insecure, "security.insecure"), (host, "network.host")].into_iter().find_map(|(flag, name)| Some((flag?.span, name)));
        if let Some((span, name)) = refused {
            self.error("not-allowed", format!("{name} is not allowed: whoever runs the build allows it with --allow {name}"), span);
            return None;
        }
        let Some(device) = run.devices.first() else { return Some(()) };
        self.error("unsupported", "RUN --device is not supported yet: with --security=insecure a step has the devices of this machine", device.span);
        None
    }

    /// The arguments, and the script that one of them names.
    fn command(&self, run: &dockerfile::Run) -> (Vec<String>, Vec<InlineFile>) {
        if let CommandLine::Exec(words) = &run.command {
            return (words.iter().map(|word| word.value.clone()).collect(), Vec::new());
        }
        match run.script() {
            Some(script) if script.content.starts_with("#!") => {
                let path = format!("/dev/pipes/{}", script.name);
                (self.state.in_shell(&path), vec![InlineFile { name: path, content: script.content.clone() }])
            }
            Some(script) => (self.state.in_shell(&script.content), Vec::new()),
            None => (self.state.in_shell(&run.shell_text().unwrap_or_default()), Vec::new()),
        }
    }

    fn history_row(&self, args: &[String]) -> String {
        let state = &self.state;
        let value = |name: &str, own: &Option<String>| state.environment.get(name).map(str::to_owned).or_else(|| own.clone()).unwrap_or_default();
        let mut words = Vec::new();
        if !state.args.is_empty() {
            words.push(format!("|{}", state.args.len()));
            words.extend(state.args.iter().map(|(name, own)| format!("{name}={}", value(name, own))));
        }
        words.extend(args.iter().cloned());
        format!("RUN {} # buildkit", words.join(" "))
    }
}
