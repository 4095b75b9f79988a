//! `strake.yaml`: what a project says about itself where the rules of this package would guess otherwise. All of it is optional.
//!
//! ```yaml
//! name: shop                      # the set's name
//! namespace: shop
//! manifests: [deploy]             # directories and files, instead of everything below
//! images:
//!   web: {dockerfile: web/Dockerfile, context: web, target: release, args: {VERSION: "2"}}
//! values: {replicas: 2, host: shop.localhost}   # what `${{ replicas }}` in a manifest stands for
//! lints: {latest-tag: error}
//! registry: registry.example.org/shop           # where another cluster pulls images from that are built here
//! dev: {sync: [{image: web, from: web/static, to: /srv/static, run: [kill, -HUP, "1"]}]}   # of `strake up --watch`
//! hooks: {before: [job/migrate], after: [job/smoke]}   # run to their end before and after the rest, in this order
//! lock: {policies: [{image: registry/app, semver: ">=1.2 <2"}]}   # of `strake image lock --update`
//! restartOnConfig: false          # a changed ConfigMap or Secret does not restart what uses it
//! keepRevisions: 20               # how many revisions stay in the set's history
//! health:                         # when custom resources are as they should be, in CEL
//!   Database.example.org: {current: 'status.phase == "Running"', failed: 'status.phase == "Error"'}
//! environments:
//!   prod: {namespace: prod, overlay: k8s/overlays/prod, context: production, values: {replicas: 5}}
//! ```

use std::collections::BTreeMap;

use strake_deploy::HealthRule;
use strake_kinds::health;
use strake_plan::Phase;
use strake_source::{Diagnostic, FileId, Sources, Span, Spanned, nearest};
use strake_yaml::{Kind, Node};

use crate::lint::{Level, rules};

/// A project's file.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The set's name.
    pub name: Option<String>,
    /// What the plan is like without an environment, and what environments change.
    pub settings: Settings,
    /// Directories and files with manifests, from the project's directory; everything below it when there are none.
    pub manifests: Vec<String>,
    /// Images by the name that manifests give them.
    pub images: BTreeMap<String, ImageConfig>,
    /// Environments by name.
    pub environments: BTreeMap<String, Settings>,
    /// Objects that run to their end before or after the rest, as `KIND/NAME`, in their order.
    pub hooks: Vec<(Phase, Spanned<String>)>,
    /// A changed ConfigMap or Secret restarts nothing.
    pub keep_pods: bool,
    /// What the development loop puts straight into containers.
    pub sync: Vec<SyncRule>,
    /// How the tags of images that manifests name without one are chosen.
    pub tags: Vec<TagRule>,
    /// When objects of a kind are as they should be.
    pub health: Vec<HealthRule>,
}

/// How an image's tag is chosen from those that its registry has, as it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct TagRule {
    /// The image, without a tag.
    pub image: Spanned<String>,
    /// A range of versions.
    pub semver: Option<String>,
    /// A pattern with `*`.
    pub tag: Option<String>,
    /// How what fits the pattern is ordered.
    pub order: Option<String>,
}

/// Files that the development loop puts into running containers, without a new image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncRule {
    /// The image, as manifests name it.
    pub image: String,
    /// A file or directory, from the project's directory.
    pub from: String,
    /// Where it belongs in the container: an absolute path.
    pub to: String,
    /// A command to run in the container afterwards.
    pub run: Vec<String>,
}

/// What an environment can change.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The namespace of objects that name none.
    pub namespace: Option<String>,
    /// The directory of a kustomize overlay.
    pub overlay: Option<String>,
    /// The context of the kubeconfig; strake's own cluster without one.
    pub context: Option<String>,
    /// Where another cluster pulls images from that are built here: `HOST[/PATH]`.
    pub registry: Option<String>,
    /// Parameters.
    pub values: BTreeMap<String, Node>,
    /// Levels of lint rules.
    pub lints: BTreeMap<String, Level>,
    /// How many revisions stay in the set's history; 0 keeps none.
    pub keep_revisions: Option<usize>,
}

/// How an image is built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// The Dockerfile, from the project's directory; `Dockerfile` in the context when it is not given.
    pub dockerfile: Option<String>,
    /// The directory whose files COPY sees, from the project's directory; the Dockerfile's own when it is not given.
    pub context: Option<String>,
    /// The stage to build.
    pub target: Option<String>,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
}

/// The name of the file.
pub const FILE_NAME: &str = "strake.yaml";

const TOP: [&str; 14] = [
    "name",
    "namespace",
    "registry",
    "manifests",
    "images",
    "values",
    "lints",
    "environments",
    "hooks",
    "dev",
    "lock",
    "restartOnConfig",
    "keepRevisions",
    "health",
];
const LOCK: [&str; 1] = ["policies"];
const POLICY: [&str; 4] = ["image", "semver", "tag", "order"];
const DEV: [&str; 1] = ["sync"];
const SYNC: [&str; 4] = ["image", "from", "to", "run"];
const IMAGE: [&str; 4] = ["dockerfile", "context", "target", "args"];
const ENVIRONMENT: [&str; 7] = ["namespace", "overlay", "context", "registry", "values", "lints", "keepRevisions"];
const HEALTH: [&str; 3] = ["failed", "inProgress", "current"];

/// Reads the file. What is wrong is left out and told.
pub fn read(file: FileId, text: &str) -> (Config, Vec<Diagnostic>) {
    let (documents, diagnostics) = strake_yaml::parse(file, text);
    let mut reader = Reader { diagnostics };
    let mut config = Config::default();
    let Some(document) = documents.into_iter().next() else { return (config, reader.diagnostics) };
    let root = document.root;
    for (key, value) in reader.fields(&root, &TOP, FILE_NAME) {
        match key.value.as_str() {
            "name" => config.name = reader.text(key, value),
            "manifests" => config.manifests = reader.texts(key, value),
            "hooks" => config.hooks = reader.hooks(value),
            "restartOnConfig" => config.keep_pods = !reader.truth(key, value),
            "dev" => {
                for (_, rules) in reader.fields(value, &DEV, "`dev`") {
                    config.sync = reader.sync(rules);
                }
            }
            "lock" => {
                for (_, rules) in reader.fields(value, &LOCK, "`lock`") {
                    config.tags = reader.policies(rules);
                }
            }
            "images" => {
                for (name, value) in reader.mapping(key, value) {
                    let image = reader.image(name, value);
                    config.images.insert(name.value.clone(), image);
                }
            }
            "health" => {
                for (kind, value) in reader.mapping(key, value) {
                    config.health.extend(reader.health(kind, value));
                }
            }
            "environments" => {
                for (name, value) in reader.mapping(key, value) {
                    let settings = reader.environment(name, value);
                    config.environments.insert(name.value.clone(), settings);
                }
            }
            _ => reader.setting(key, value, &mut config.settings),
        }
    }
    // Environments may stand before the values that they change.
    let declared = config.settings.values.clone();
    for settings in config.environments.values() {
        reader.undeclared(&settings.values, &declared);
    }
    (config, reader.diagnostics)
}

impl Config {
    /// The settings of an environment, over the project's own. `Err` names the environments that there are.
    pub fn settings(&self, environment: Option<&str>) -> Result<Settings, String> {
        let mut settings = self.settings.clone();
        let Some(name) = environment else { return Ok(settings) };
        let Some(chosen) = self.environments.get(name) else {
            let names: Vec<&str> = self.environments.keys().map(String::as_str).collect();
            let there = if names.is_empty() { format!("{FILE_NAME} has none") } else { format!("there are: {}", names.join(", ")) };
            return Err(format!("there is no environment `{name}`; {there}"));
        };
        settings.namespace = chosen.namespace.clone().or(settings.namespace);
        settings.overlay = chosen.overlay.clone().or(settings.overlay);
        settings.context = chosen.context.clone().or(settings.context);
        settings.registry = chosen.registry.clone().or(settings.registry);
        settings.keep_revisions = chosen.keep_revisions.or(settings.keep_revisions);
        settings.values.extend(chosen.values.clone());
        settings.lints.extend(chosen.lints.clone());
        Ok(settings)
    }
}

/// The values of a file of parameters: one mapping.
pub fn read_values(sources: &Sources, file: FileId) -> (BTreeMap<String, Node>, Vec<Diagnostic>) {
    let (documents, diagnostics) = strake_yaml::parse_file(sources, file);
    let mut reader = Reader { diagnostics };
    let root = documents.into_iter().next().map(|document| document.root);
    let key = Spanned::new("values".to_owned(), Span::new(file, 0, 0));
    let values = root.iter().flat_map(|root| reader.mapping(&key, root)).map(|(name, value)| (name.value.clone(), value.clone())).collect();
    (values, reader.diagnostics)
}

struct Reader {
    diagnostics: Vec<Diagnostic>,
}

impl Reader {
    fn error(&mut self, span: Span, message: String) {
        self.diagnostics.push(Diagnostic::error("project-file", message).at(span));
    }

    /// The entries of a mapping whose keys are known; the others are told.
    fn fields<'a>(&mut self, node: &'a Node, known: &[&'static str], inside: &str) -> Vec<(&'a Spanned<String>, &'a Node)> {
        if !matches!(node.kind, Kind::Mapping(_) | Kind::Null) {
            self.error(node.span, format!("{inside} is a mapping, found {}", node.kind_name()));
        }
        let mut found = Vec::new();
        for (key, value) in node.entries() {
            if !known.contains(&key.value.as_str()) {
                let finding = Diagnostic::error("project-file", format!("`{}` is not a field of {inside}", key.value)).at(key.span);
                self.diagnostics.push(match nearest(&key.value, known.iter().copied()) {
                    Some(near) => finding.label(format!("did you mean `{near}`?")),
                    None => finding.help(format!("fields: {}", known.join(", "))),
                });
            } else if !matches!(value.kind, Kind::Null) {
                found.push((key, value));
            }
        }
        found
    }

    fn mapping<'a>(&mut self, key: &Spanned<String>, value: &'a Node) -> &'a [(Spanned<String>, Node)] {
        if !matches!(value.kind, Kind::Mapping(_) | Kind::Null) {
            self.error(value.span, format!("`{}` is a mapping, found {}", key.value, value.kind_name()));
        }
        value.entries()
    }

    fn text(&mut self, key: &Spanned<String>, value: &Node) -> Option<String> {
        let text = value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        if text.is_none() {
            self.error(value.span, format!("`{}` is a text, found {}", key.value, value.kind_name()));
        }
        text
    }

    fn truth(&mut self, key: &Spanned<String>, value: &Node) -> bool {
        match value.kind {
            Kind::Bool(truth) => truth,
            _ => {
                self.error(value.span, format!("`{}` is true or false, found {}", key.value, value.kind_name()));
                true
            }
        }
    }

    fn count(&mut self, key: &Spanned<String>, value: &Node) -> Option<usize> {
        let count = if let Kind::Int(number) = &value.kind { number.to_string().parse().ok() } else { None };
        if count.is_none() {
            self.error(value.span, format!("`{}` is a whole number from 0 on, found {}", key.value, value.to_json()));
        }
        count
    }

    /// What is said of the objects of a kind, which is `KIND.GROUP`.
    fn health(&mut self, kind: &Spanned<String>, value: &Node) -> Option<HealthRule> {
        let (name, group) = kind.value.split_once('.').unwrap_or((&kind.value, ""));
        if !name.starts_with(|c: char| c.is_ascii_uppercase()) || kind.value.ends_with('.') || kind.value.contains('/') {
            self.error(kind.span, format!("`{}` is no kind: expected KIND.GROUP, such as Certificate.cert-manager.io", kind.value));
            return None;
        }
        let mut rule = HealthRule { kind: kind.clone(), group: group.to_owned(), name: name.to_owned(), expressions: BTreeMap::new() };
        for (field, value) in self.fields(value, &HEALTH, &format!("the health of `{}`", kind.value)) {
            let annotation = match field.value.as_str() {
                "failed" => health::FAILED,
                "inProgress" => health::IN_PROGRESS,
                _ => health::CURRENT,
            };
            let Some(text) = self.text(field, value) else { continue };
            match health::check(&text) {
                Ok(()) => drop(rule.expressions.insert(annotation, text)),
                Err(why) => self.error(value.span, format!("the expression cannot be used: {why}")),
            }
        }
        Some(rule).filter(|rule| !rule.expressions.is_empty())
    }

    fn texts(&mut self, key: &Spanned<String>, value: &Node) -> Vec<String> {
        if !matches!(value.kind, Kind::Sequence(_)) {
            self.error(value.span, format!("`{}` is a list, found {}", key.value, value.kind_name()));
        }
        value.items().iter().filter_map(|item| self.text(key, item)).collect()
    }

    fn hooks(&mut self, value: &Node) -> Vec<(Phase, Spanned<String>)> {
        let mut hooks = Vec::new();
        for (key, list) in self.fields(value, &["before", "after"], "`hooks`") {
            let phase = if key.value == "before" { Phase::Before } else { Phase::After };
            if !matches!(list.kind, Kind::Sequence(_)) {
                self.error(list.span, format!("`{}` is a list, found {}", key.value, list.kind_name()));
            }
            for item in list.items() {
                hooks.extend(self.text(key, item).map(|word| (phase, Spanned::new(word, item.span))));
            }
        }
        hooks
    }

    fn image(&mut self, name: &Spanned<String>, value: &Node) -> ImageConfig {
        let mut image = ImageConfig::default();
        for (key, value) in self.fields(value, &IMAGE, &format!("the image `{}`", name.value)) {
            match key.value.as_str() {
                "dockerfile" => image.dockerfile = self.text(key, value),
                "context" => image.context = self.text(key, value),
                "target" => image.target = self.text(key, value),
                _ => {
                    for (argument, value) in self.mapping(key, value) {
                        let text = match &value.kind {
                            Kind::String(text) => Some(text.clone()),
                            Kind::Int(_) | Kind::Bool(_) | Kind::Float(_) => Some(value.to_json().to_string()),
                            _ => self.text(argument, value),
                        };
                        image.args.extend(text.map(|text| (argument.value.clone(), text)));
                    }
                }
            }
        }
        image
    }

    fn sync(&mut self, rules: &Node) -> Vec<SyncRule> {
        if !matches!(rules.kind, Kind::Sequence(_)) {
            self.error(rules.span, format!("`sync` is a list, found {}", rules.kind_name()));
        }
        let mut found = Vec::new();
        for item in rules.items() {
            let mut rule = SyncRule::default();
            for (key, value) in self.fields(item, &SYNC, "a rule of `sync`") {
                match key.value.as_str() {
                    "image" => rule.image = self.text(key, value).unwrap_or_default(),
                    "from" => rule.from = self.text(key, value).unwrap_or_default(),
                    "to" => rule.to = self.text(key, value).unwrap_or_default(),
                    _ => rule.run = self.texts(key, value),
                }
            }
            let missing = [("image", &rule.image), ("from", &rule.from), ("to", &rule.to)].into_iter().find(|(_, text)| text.is_empty());
            match missing {
                Some((field, _)) => self.error(item.span, format!("a rule of `sync` needs `{field}`")),
                None if !rule.to.starts_with('/') => self.error(item.span, format!("`to` is an absolute path in the container, found `{}`", rule.to)),
                None => found.push(rule),
            }
        }
        found
    }

    fn policies(&mut self, rules: &Node) -> Vec<TagRule> {
        if !matches!(rules.kind, Kind::Sequence(_)) {
            self.error(rules.span, format!("`policies` is a list, found {}", rules.kind_name()));
        }
        let mut found = Vec::new();
        for item in rules.items() {
            let mut rule = TagRule { image: Spanned::new(String::new(), item.span), semver: None, tag: None, order: None };
            for (key, value) in self.fields(item, &POLICY, "a policy of `lock`") {
                match key.value.as_str() {
                    "image" => rule.image = Spanned::new(self.text(key, value).unwrap_or_default(), value.span),
                    "semver" => {
                        rule.semver = self.text(key, value);
                        if let Some(Err(error)) = rule.semver.as_deref().map(strake_kinds::validate::sync::range) {
                            self.error(value.span, error);
                        }
                    }
                    "tag" => rule.tag = self.text(key, value),
                    _ => rule.order = self.text(key, value),
                }
            }
            match (&rule.semver, &rule.tag) {
                _ if rule.image.value.is_empty() => self.error(item.span, "a policy of `lock` needs `image`".to_owned()),
                (None, None) => self.error(item.span, "a policy of `lock` needs `semver`, `tag` or both".to_owned()),
                _ => found.push(rule),
            }
        }
        found
    }

    fn environment(&mut self, name: &Spanned<String>, value: &Node) -> Settings {
        let mut settings = Settings::default();
        for (key, value) in self.fields(value, &ENVIRONMENT, &format!("the environment `{}`", name.value)) {
            self.setting(key, value, &mut settings);
        }
        settings
    }

    fn setting(&mut self, key: &Spanned<String>, value: &Node, settings: &mut Settings) {
        match key.value.as_str() {
            "namespace" => settings.namespace = self.text(key, value),
            "overlay" => settings.overlay = self.text(key, value),
            "context" => settings.context = self.text(key, value),
            "registry" => settings.registry = self.text(key, value),
            "keepRevisions" => settings.keep_revisions = self.count(key, value),
            "values" => settings.values = self.mapping(key, value).iter().map(|(name, value)| (name.value.clone(), value.clone())).collect(),
            _ => {
                for (code, level) in self.mapping(key, value) {
                    self.level(code, level, &mut settings.lints);
                }
            }
        }
    }

    fn level(&mut self, code: &Spanned<String>, level: &Node, levels: &mut BTreeMap<String, Level>) {
        let codes: Vec<&str> = rules().into_iter().map(|rule| rule.code).collect();
        // YAML reads a bare `off` as false.
        let parsed = match &level.kind {
            Kind::Bool(false) => Some(Level::Off),
            _ => level.as_str().and_then(Level::parse),
        };
        let Some(parsed) = parsed else {
            return self.error(level.span, "a level is off, note, warning or error".to_owned());
        };
        if code.value == "all" {
            return levels.extend(codes.into_iter().map(|code| (code.to_owned(), parsed)));
        }
        if !codes.contains(&code.value.as_str()) {
            let finding = Diagnostic::error("project-file", format!("there is no lint rule `{}`", code.value)).at(code.span);
            return self.diagnostics.push(match nearest(&code.value, codes) {
                Some(near) => finding.label(format!("did you mean `{near}`?")),
                None => finding.help("`strake explain` lists the rules"),
            });
        }
        levels.insert(code.value.clone(), parsed);
    }

    /// An environment changes what the project has, and keeps its type: a misspelt name would change nothing.
    fn undeclared(&mut self, values: &BTreeMap<String, Node>, declared: &BTreeMap<String, Node>) {
        for (name, value) in values {
            let Some(default) = declared.get(name) else {
                let finding = Diagnostic::error("project-file", format!("the project declares no value `{name}`")).at(value.span);
                self.diagnostics.push(match nearest(name, declared.keys().map(String::as_str)) {
                    Some(near) => finding.label(format!("did you mean `{near}`?")),
                    None => finding.help("give it under the project's own `values`, with what it is without an environment"),
                });
                continue;
            };
            if default.kind_name() != value.kind_name() && !matches!(default.kind, Kind::Null) {
                let message = format!("`{name}` is {} here, and {} for the project", value.kind_name(), default.kind_name());
                self.diagnostics.push(Diagnostic::error("project-file", message).at(value.span).related(default.span, "its first value"));
            }
        }
    }
}

/// Checks values that come from elsewhere against those that are declared.
pub fn check_values(values: &BTreeMap<String, Node>, declared: &BTreeMap<String, Node>) -> Vec<Diagnostic> {
    let mut reader = Reader { diagnostics: Vec::new() };
    reader.undeclared(values, declared);
    reader.diagnostics
}
