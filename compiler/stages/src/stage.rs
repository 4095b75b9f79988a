//! One stage while it is lowered: its state and what its instructions do to it.

use strake_dockerfile::{Command, ExpandError, Instruction, Text, expand, parse_fragment};
use strake_oci::{ContainerConfig, ImageConfig, Platform};
use strake_plan::{ImageHistory, Mkdir, Op, Origin, StepIndex};
use strake_source::{Diagnostic, FileId, Span};

use crate::history;
use crate::lower::Lowering;
use crate::scope::{self, Environment};

/// Where programs are searched for when a base says nothing.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a stage has become so far.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) step: StepIndex,
    pub(crate) config: ImageConfig,
    pub(crate) history: Vec<ImageHistory>,
    /// ENV and ARG together, the latest of each name.
    pub(crate) environment: Environment,
    /// ARGs by name in the order declared, with the value each resolved to.
    pub(crate) args: Vec<(String, Option<String>)>,
    /// CMD was written in this very stage.
    pub(crate) cmd_set: bool,
    pub(crate) workdir_set: bool,
}

impl State {
    /// The state of a stage that starts from nothing.
    pub(crate) fn scratch(step: StepIndex, platform: &Platform) -> Self {
        let container = ContainerConfig { working_dir: "/".to_owned(), ..ContainerConfig::default() };
        let config = ImageConfig {
            os: platform.os.clone(),
            architecture: platform.architecture.clone(),
            variant: platform.variant.clone(),
            config: container,
            ..ImageConfig::default()
        };
        State::from_config(step, config, Vec::new())
    }

    /// The state of a stage that starts from an image: its layers are counted elsewhere.
    pub(crate) fn from_config(step: StepIndex, mut config: ImageConfig, history: Vec<ImageHistory>) -> Self {
        config.created = None;
        config.history = Vec::new();
        config.rootfs = strake_oci::RootFs::default();
        if config.env("PATH").is_none() && config.os != "windows" {
            config.config.env.push(format!("PATH={DEFAULT_PATH}"));
        }
        let environment = Environment::from_pairs(&config.config.env);
        State { step, config, history, environment, args: Vec::new(), cmd_set: false, workdir_set: false }
    }

    /// What a stage starts with that is FROM this one.
    pub(crate) fn inherited(&self) -> Self {
        State { cmd_set: false, ..self.clone() }
    }

    pub(crate) fn workdir(&self) -> &str {
        if self.config.config.working_dir.is_empty() { "/" } else { &self.config.config.working_dir }
    }

    /// The command for the shell that is in force.
    pub(crate) fn in_shell(&self, text: &str) -> Vec<String> {
        let mut args = self.config.config.shell.clone();
        if args.is_empty() {
            args = vec!["/bin/sh".to_owned(), "-c".to_owned()];
        }
        args.push(text.to_owned());
        args
    }
}

/// Lowers the instructions of one stage.
pub(crate) struct StageLowering<'l, 'r> {
    pub(crate) lowering: &'l mut Lowering<'r>,
    pub(crate) index: usize,
    pub(crate) state: State,
    /// Where an ONBUILD trigger of an image fired: its own text is in no file.
    place: Option<Span>,
    line: u32,
    text: String,
    /// The agents that the RUN at hand has asked for so far.
    pub(crate) agents: usize,
}

impl<'l, 'r> StageLowering<'l, 'r> {
    pub(crate) fn new(lowering: &'l mut Lowering<'r>, index: usize, state: State) -> Self {
        StageLowering { lowering, index, state, place: None, line: 0, text: String::new(), agents: 0 }
    }

    /// Runs the triggers that the base brought, then the stage's own instructions.
    pub(crate) fn run(&mut self) {
        let stage = &self.lowering.graph.stages[self.index];
        let (from, end, span) = (stage.from, stage.end, stage.span);
        let file = &self.lowering.request.file;
        let triggers = std::mem::take(&mut self.state.config.config.on_build);
        for trigger in triggers {
            self.place = Some(span);
            let (instructions, found) = parse_fragment(FileId::default(), &trigger, file.directives.escape);
            for finding in found.into_iter().filter(Diagnostic::is_error) {
                self.error("onbuild", format!("ONBUILD trigger `{trigger}` of the base: {}", finding.message), span);
            }
            for instruction in &instructions {
                self.instruction(instruction, file.instructions[from].line);
            }
        }
        self.place = None;
        for instruction in &file.instructions[from + 1..end] {
            self.instruction(instruction, instruction.line);
        }
    }

    fn instruction(&mut self, instruction: &Instruction, line: u32) {
        self.line = line;
        self.text.clone_from(&instruction.text);
        // A word that cannot be expanded has been reported; the instruction is then left out.
        let _ = self.apply(&instruction.command);
    }

    fn apply(&mut self, command: &Command) -> Option<()> {
        match command {
            Command::Add(add) => self.copy(add, true),
            Command::Copy(copy) => self.copy(copy, false),
            Command::Run(run) => self.run_command(run),
            Command::Workdir(path) => self.workdir(path),
            other => self.configure(other),
        }
    }

    /// The place to report: that of the FROM while an image's trigger runs.
    pub(crate) fn place(&self, span: Span) -> Span {
        self.place.unwrap_or(span)
    }

    pub(crate) fn error(&mut self, code: &'static str, message: impl Into<String>, span: Span) {
        let finding = Diagnostic::error(code, message).at(self.place(span));
        self.lowering.diagnostics.push(finding);
    }

    pub(crate) fn warn(&mut self, code: &'static str, message: impl Into<String>, span: Span, help: &str) {
        // Nobody can mend a trigger of an image from here.
        if self.place.is_none() {
            self.lowering.diagnostics.push(Diagnostic::warning(code, message).at(span).help(help));
        }
    }

    pub(crate) fn escape(&self) -> char {
        self.lowering.request.file.directives.escape
    }

    /// Expands a word with the stage's variables as they are now.
    pub(crate) fn expand(&mut self, text: &Text) -> Option<String> {
        let (span, environment) = (text.span, &self.state.environment);
        match expand(&text.value, &|name| environment.get(name).map(str::to_owned), self.escape()) {
            Ok(expanded) => {
                self.warn_unmatched(&expanded.unmatched, span);
                Some(expanded.text)
            }
            Err(error) => self.cannot_expand(&error, span),
        }
    }

    /// Reports a word that cannot be expanded.
    pub(crate) fn cannot_expand<T>(&mut self, error: &ExpandError, span: Span) -> Option<T> {
        let finding = scope::expansion_error(error, self.place(span));
        self.lowering.diagnostics.push(finding);
        None
    }

    /// Warns of names without a value; nobody can mend those of an image's trigger from here.
    pub(crate) fn warn_unmatched(&mut self, names: &[String], span: Span) {
        if self.place.is_none() && !names.is_empty() {
            let declared = self.state.environment.declared_with(&self.state.args);
            scope::warn_unmatched(names, &declared, "UndefinedVar", span, &mut self.lowering.diagnostics);
        }
    }

    pub(crate) fn expand_all(&mut self, texts: &[Text]) -> Option<Vec<String>> {
        texts.iter().map(|text| self.expand(text)).collect()
    }

    pub(crate) fn record(&mut self, created_by: String, empty_layer: bool) {
        self.state.history.push(history::row(created_by, empty_layer));
    }

    /// Adds a step on top of this stage.
    pub(crate) fn push(&mut self, op: Op, may_skip_cache: bool) {
        let request = self.lowering.request;
        let label = self.lowering.graph.label(self.index);
        let chosen = |stage: &String| stage.eq_ignore_ascii_case(&label) || *stage == self.index.to_string();
        let no_cache = may_skip_cache && (request.no_cache || request.no_cache_stages.iter().any(chosen));
        let origin = Origin { file: request.file_name.clone(), line: self.line, text: self.text.clone(), no_cache };
        self.state.step = self.lowering.plan.push(op, origin, label);
    }

    fn workdir(&mut self, path: &Text) -> Option<()> {
        let written = self.expand(path)?;
        let directory = if written.starts_with('/') {
            written.clone()
        } else {
            if !self.state.workdir_set && self.place.is_none() {
                let message = format!("relative workdir `{written}` depends on the base image's working directory");
                self.warn("WorkdirRelativePath", message, path.span, "write an absolute path");
            }
            strake_dockerfile::clean_path(&format!("{}/{written}", self.state.workdir()))
        };
        let cleaned = strake_dockerfile::clean_path(&directory);
        self.state.workdir_set = true;
        if cleaned != "/" {
            let user = self.state.config.config.user.clone();
            self.push(Op::Mkdir(Mkdir { parent: self.state.step, path: cleaned.clone(), user }), false);
        }
        self.record(format!("WORKDIR {directory}"), cleaned == "/");
        self.state.config.config.working_dir = directory;
        Some(())
    }
}
