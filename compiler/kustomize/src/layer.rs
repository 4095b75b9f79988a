//! One kustomization file: its fields checked, its files named.

use strake_source::{Diagnostic, nearest};
use strake_yaml::{Kind, Node};

use crate::tree::parent;

/// A kustomization file.
pub(crate) struct Layer {
    pub(crate) node: Node,
    /// The directory that holds it.
    pub(crate) directory: String,
    /// Its path.
    pub(crate) file: String,
}

/// What a field holds.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Texts,
    Flag,
    Any,
    /// A mapping of texts.
    Pairs,
    /// A mapping with these fields.
    Fields(&'static [(&'static str, Form)]),
    /// A list of such mappings.
    List(&'static [(&'static str, Form)]),
    /// Known, but not done here; the text says what to do instead.
    Unsupported(&'static str),
}

const SELECT: &[(&str, Form)] = &[
    ("group", Form::Text),
    ("version", Form::Text),
    ("kind", Form::Text),
    ("namespace", Form::Text),
    ("name", Form::Text),
    ("labelSelector", Form::Text),
    ("annotationSelector", Form::Text),
];
const PLACE: &[(&str, Form)] = &[("group", Form::Text), ("version", Form::Text), ("kind", Form::Text), ("path", Form::Text), ("create", Form::Flag)];
const LABEL: &[(&str, Form)] = &[
    ("pairs", Form::Pairs),
    ("includeSelectors", Form::Flag),
    ("includeTemplates", Form::Flag),
    ("includeVolumeClaimTemplates", Form::Flag),
    ("fields", Form::List(PLACE)),
];
const PATCH: &[(&str, Form)] = &[
    ("path", Form::Text),
    ("patch", Form::Text),
    ("target", Form::Fields(SELECT)),
    ("options", Form::Fields(&[("allowNameChange", Form::Flag), ("allowKindChange", Form::Flag)])),
];
const IMAGE: &[(&str, Form)] = &[("name", Form::Text), ("newName", Form::Text), ("newTag", Form::Any), ("tagSuffix", Form::Text), ("digest", Form::Text)];
const OPTIONS: &[(&str, Form)] = &[("labels", Form::Pairs), ("annotations", Form::Pairs), ("disableNameSuffixHash", Form::Flag), ("immutable", Form::Flag)];
const GENERATOR: &[(&str, Form)] = &[
    ("name", Form::Text),
    ("namespace", Form::Text),
    ("behavior", Form::Text),
    ("type", Form::Text),
    ("files", Form::Texts),
    ("literals", Form::Texts),
    ("envs", Form::Texts),
    ("env", Form::Text),
    ("options", Form::Fields(OPTIONS)),
];
const REPLACE_OPTIONS: &[(&str, Form)] = &[("delimiter", Form::Text), ("index", Form::Any), ("encoding", Form::Text), ("create", Form::Flag)];
const SOURCE: &[(&str, Form)] = &[
    ("group", Form::Text),
    ("version", Form::Text),
    ("kind", Form::Text),
    ("namespace", Form::Text),
    ("name", Form::Text),
    ("fieldPath", Form::Text),
    ("options", Form::Fields(REPLACE_OPTIONS)),
];
const TARGET: &[(&str, Form)] =
    &[("select", Form::Fields(SELECT)), ("reject", Form::List(SELECT)), ("fieldPaths", Form::Texts), ("options", Form::Fields(REPLACE_OPTIONS))];
/// The fields of a replacement.
const REPLACEMENT: &[(&str, Form)] = &[("path", Form::Text), ("source", Form::Fields(SOURCE)), ("sourceValue", Form::Any), ("targets", Form::List(TARGET))];

const PLUGINS: &str = "strake runs no plugins: make the objects before, and list them under `resources`";
const TOP: &[(&str, Form)] = &[
    ("apiVersion", Form::Text),
    ("kind", Form::Text),
    ("metadata", Form::Any),
    ("namePrefix", Form::Text),
    ("nameSuffix", Form::Text),
    ("namespace", Form::Text),
    ("commonLabels", Form::Pairs),
    ("labels", Form::List(LABEL)),
    ("commonAnnotations", Form::Pairs),
    ("patchesStrategicMerge", Form::Texts),
    ("patchesJson6902", Form::List(PATCH)),
    ("patches", Form::List(PATCH)),
    ("images", Form::List(IMAGE)),
    ("imageTags", Form::List(IMAGE)),
    ("replacements", Form::List(REPLACEMENT)),
    ("replicas", Form::List(&[("name", Form::Text), ("count", Form::Any)])),
    // The plan has its own order.
    ("sortOptions", Form::Any),
    ("resources", Form::Texts),
    ("bases", Form::Texts),
    ("components", Form::Texts),
    ("configMapGenerator", Form::List(GENERATOR)),
    ("secretGenerator", Form::List(GENERATOR)),
    ("generatorOptions", Form::Fields(OPTIONS)),
    ("vars", Form::Unsupported("write `replacements`, which took their place")),
    ("helmCharts", Form::Unsupported("render the chart before (helm template), and list the result under `resources`")),
    ("helmGlobals", Form::Unsupported("render the chart before (helm template), and list the result under `resources`")),
    ("helmChartInflationGenerator", Form::Unsupported("render the chart before (helm template), and list the result under `resources`")),
    ("generators", Form::Unsupported(PLUGINS)),
    ("transformers", Form::Unsupported(PLUGINS)),
    ("validators", Form::Unsupported(PLUGINS)),
    ("configurations", Form::Unsupported("say where labels go with `labels[].fields`, and change other places with `replacements`")),
    ("crds", Form::Unsupported("rename references in custom resources with `replacements`")),
    ("openapi", Form::Unsupported("change lists of custom resources with JSON patches")),
    ("buildMetadata", Form::Unsupported("the plan says where each object comes from")),
];

impl Layer {
    pub(crate) fn new(node: Node, file: &str) -> Layer {
        Layer { node, directory: parent(file), file: file.to_owned() }
    }

    /// A field that is there and not null.
    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        self.node.get(name).filter(|node| !matches!(node.kind, Kind::Null))
    }

    /// The items of a list; none where there is no list.
    pub(crate) fn items(&self, name: &str) -> &[Node] {
        self.get(name).map(Node::items).unwrap_or_default()
    }

    /// Changes what another layer has, instead of having objects of its own.
    pub(crate) fn is_component(&self) -> bool {
        self.get("kind").and_then(Node::as_str) == Some("Component")
    }

    /// `resources` and `bases`.
    pub(crate) fn resources(&self) -> impl Iterator<Item = &Node> {
        self.items("resources").iter().chain(self.items("bases"))
    }

    /// Unknown, mistyped and unsupported fields.
    pub(crate) fn check(&self, diagnostics: &mut Vec<Diagnostic>) {
        if !matches!(self.node.kind, Kind::Mapping(_)) {
            let message = format!("found {}, expected a kustomization", self.node.kind_name());
            return diagnostics.push(Diagnostic::error("kustomize-field", message).at(self.node.span));
        }
        fields(&self.node, TOP, "a kustomization", diagnostics);
        if let Some(kind) = self.get("kind").filter(|kind| !matches!(kind.as_str(), Some("Kustomization" | "Component"))) {
            diagnostics.push(Diagnostic::error("kustomize-field", "`kind` is Kustomization or Component").at(kind.span));
        }
    }
}

/// Checks one replacement that stands in a file of its own.
pub(crate) fn check_replacement(node: &Node, diagnostics: &mut Vec<Diagnostic>) {
    fields(node, REPLACEMENT, "a replacement", diagnostics);
}

fn fields(node: &Node, table: &'static [(&'static str, Form)], inside: &str, diagnostics: &mut Vec<Diagnostic>) {
    for (key, value) in node.entries() {
        let Some((name, form)) = table.iter().find(|(name, _)| *name == key.value) else {
            let finding = Diagnostic::error("kustomize-field", format!("`{}` is not a field of {inside}", key.value)).at(key.span);
            diagnostics.push(match nearest(&key.value, table.iter().map(|(name, _)| *name)) {
                Some(near) => finding.label(format!("did you mean `{near}`?")),
                None => finding.help(format!("fields: {}", table.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "))),
            });
            continue;
        };
        if !matches!(value.kind, Kind::Null) {
            field(name, value, *form, diagnostics);
        }
    }
}

fn field(name: &str, value: &Node, form: Form, diagnostics: &mut Vec<Diagnostic>) {
    let mut wrong = |node: &Node, expected: &str| {
        let message = format!("`{name}` must be {expected}, found {}", node.kind_name());
        diagnostics.push(Diagnostic::error("kustomize-field", message).at(node.span));
    };
    match form {
        Form::Any => {}
        Form::Text if value.as_str().is_none() => wrong(value, "text"),
        Form::Flag if !matches!(value.kind, Kind::Bool(_)) => wrong(value, "true or false"),
        Form::Texts if !matches!(value.kind, Kind::Sequence(_)) => wrong(value, "a list of texts"),
        Form::Texts => value.items().iter().filter(|item| item.as_str().is_none()).for_each(|item| wrong(item, "a list of texts")),
        Form::Pairs if !matches!(value.kind, Kind::Mapping(_)) => wrong(value, "a mapping of names to texts"),
        Form::Pairs => {
            let bad = value.entries().iter().filter(|(_, value)| value.as_str().is_none());
            bad.for_each(|(_, value)| wrong(value, "a mapping of names to texts: put the value in quotes"));
        }
        Form::Fields(_) if !matches!(value.kind, Kind::Mapping(_)) => wrong(value, "a mapping"),
        Form::Fields(table) => fields(value, table, &format!("`{name}`"), diagnostics),
        Form::List(_) if !matches!(value.kind, Kind::Sequence(_)) => wrong(value, "a list"),
        Form::List(table) => {
            for item in value.items() {
                match item.kind {
                    Kind::Mapping(_) => fields(item, table, &format!("an item of `{name}`"), diagnostics),
                    _ => diagnostics
                        .push(Diagnostic::error("kustomize-field", format!("an item of `{name}` must be a mapping, found {}", item.kind_name())).at(item.span)),
                }
            }
        }
        Form::Unsupported(instead) if !value.items().is_empty() || !value.entries().is_empty() || value.as_str().is_some() => {
            let finding = Diagnostic::error("kustomize-unsupported", format!("`{name}` is not supported")).at(value.span);
            diagnostics.push(finding.help(instead));
        }
        Form::Text | Form::Flag | Form::Unsupported(_) => {}
    }
}
