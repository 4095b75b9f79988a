//! The schema of the built-in API types as data: field names, protobuf tags, types, list and map semantics, defaults.
//!
//! `schema.tbl` holds facts of Kubernetes 1.33's API types, one line a field. It is read once, on first use.
//! Its form: `@alias package` opens a package; a line without a leading blank opens a message (`atomic` after its name when it is replaced as a whole);
//! a line with a leading blank is a field: JSON name, protobuf tag (0: not on that wire), type, then flags.
//! Types: `s`tring, `i`nt32, `l` int64, `b`ool, `d`ouble, b`y`tes, `Q`uantity, int-`O`r-string, `T`ime, `U` time with microseconds, `D`uration,
//! `A`ny JSON, `F`ields of a manager, `W`rapped string list, `J`SON schema or another form, `[x]` list, `{x}` map, or a message's name.
//! Flags: `!` required, `*` set even when zero, `=` never left out, `map:k,…`/`set`/`atomic` list semantics, `patch:strategy[:key]`, `default:json`.
//! `~ tag Message` means that the message's fields stand here in JSON, but under `tag` in protobuf.

use std::collections::HashMap;
use std::sync::OnceLock;

const TABLE: &str = include_str!("schema.tbl");

/// One message: an object or a part of one.
#[derive(Debug)]
pub struct Message {
    /// Package in OpenAPI's form: `io.k8s.api.core.v1`.
    pub package: &'static str,
    /// Name inside the package: `PodSpec`.
    pub short: &'static str,
    /// Replaced as a whole by server-side apply.
    pub atomic: bool,
    /// The fields as JSON has them, those of inlined messages too.
    pub fields: &'static [Field],
    /// Messages whose fields JSON has inline: protobuf tag and message.
    pub inlines: &'static [(u32, MessageId)],
}

/// An object of which nothing is known.
pub(crate) static OPEN: Message = Message { package: "", short: "", atomic: false, fields: &[], inlines: &[] };

/// One field of a [`Message`].
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Name in JSON.
    pub name: &'static str,
    /// Protobuf tag; 0 when the field is not on that wire.
    pub tag: u32,
    /// Stands in an inlined message on the protobuf wire.
    pub inlined: bool,
    /// Type of the value.
    pub ty: Type,
    /// Clients must give it.
    pub required: bool,
    /// Presence has a meaning of its own: a zero value that was sent is kept.
    pub pointer: bool,
    /// JSON omits it when it is empty.
    pub omit_empty: bool,
    /// How server-side apply merges a list.
    pub list: ListKind,
    /// A map or message that server-side apply replaces as a whole.
    pub atomic: bool,
    /// How a strategic merge patch treats it; `None` is replace for lists, merge for objects.
    pub patch: Option<Patch>,
    /// Literal default as JSON text.
    pub default: Option<&'static str>,
}

/// The type of a [`Field`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Text.
    String,
    /// 32-bit integer.
    Int32,
    /// 64-bit integer.
    Int64,
    /// `true` or `false`.
    Bool,
    /// Floating point.
    Double,
    /// Bytes; base64 in JSON.
    Bytes,
    /// An amount such as `500m`, `1Gi`.
    Quantity,
    /// A port name or number, a count or a percentage.
    IntOrString,
    /// RFC 3339 time to the second.
    Time,
    /// RFC 3339 time to the microsecond.
    MicroTime,
    /// Go duration text.
    Duration,
    /// Any JSON value.
    Any,
    /// `fieldsV1` of a managed fields entry.
    FieldsV1,
    /// A list of strings that protobuf wraps in a message.
    StringList,
    /// A JSON schema, or a boolean, or a list (custom resource definitions only).
    JsonUnion,
    /// A list.
    List(&'static Type),
    /// A map from strings.
    Map(&'static Type),
    /// A message.
    Message(MessageId),
}

/// Names a message of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageId(u32);

/// How server-side apply merges a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// Replaced as a whole.
    Atomic,
    /// Values are unique and owned one by one.
    Set,
    /// Items are named by these keys and owned one by one.
    Map(&'static [&'static str]),
}

/// How a strategic merge patch treats a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patch {
    /// The `x-kubernetes-patch-strategy` text: `merge`, `retainKeys` or `merge,retainKeys`.
    pub strategy: &'static str,
    /// The field that names an item of a merged list.
    pub key: Option<&'static str>,
}

impl Patch {
    /// True when lists are merged.
    pub fn merge(&self) -> bool {
        self.strategy.split(',').any(|word| word == "merge")
    }

    /// True when `$retainKeys` is honoured.
    pub fn retain_keys(&self) -> bool {
        self.strategy.split(',').any(|word| word == "retainKeys")
    }
}

impl MessageId {
    /// The message itself.
    pub fn get(self) -> &'static Message {
        &schema().messages[self.0 as usize]
    }
}

impl Message {
    /// `io.k8s.api.core.v1.PodSpec`.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.package, self.short)
    }

    /// The field of that JSON name.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

impl Type {
    /// The message of a message, of a list's items or of a map's values.
    pub fn message(self) -> Option<&'static Message> {
        match self {
            Type::Message(id) => Some(id.get()),
            Type::List(inner) | Type::Map(inner) => inner.message(),
            _ => None,
        }
    }
}

/// The message of a full name such as `io.k8s.api.apps.v1.Deployment`.
pub fn message(name: &str) -> Option<&'static Message> {
    let (package, short) = name.rsplit_once('.')?;
    let schema = schema();
    schema.names.get(&(package, short)).map(|id| id.get())
}

/// The messages of a package such as `io.k8s.api.apps.v1`.
pub fn package(name: &str) -> impl Iterator<Item = &'static Message> {
    schema().messages.iter().filter(move |message| message.package == name)
}

/// All messages.
pub fn messages() -> &'static [Message] {
    &schema().messages
}

struct Schema {
    messages: Vec<Message>,
    names: HashMap<(&'static str, &'static str), MessageId>,
}

static SCHEMA: OnceLock<Schema> = OnceLock::new();

fn schema() -> &'static Schema {
    SCHEMA.get_or_init(|| read(TABLE))
}

/// A message while the table is read: its fields refer to messages by name until all names are known.
struct Draft {
    package: &'static str,
    short: &'static str,
    atomic: bool,
    rows: Vec<&'static str>,
}

/// A message's own fields, and its inlined messages.
type Own = (Vec<Field>, Vec<(u32, MessageId)>);

fn read(table: &'static str) -> Schema {
    let (drafts, packages) = drafts(table);
    let names: HashMap<_, _> = drafts.iter().enumerate().map(|(index, draft)| ((draft.package, draft.short), MessageId(index as u32))).collect();
    let mut parsed: Vec<Own> = Vec::with_capacity(drafts.len());
    for draft in &drafts {
        let resolve = |name: &'static str| match name.rsplit_once('.') {
            Some((alias, short)) => names[&(packages[alias], short)],
            None => names[&(draft.package, name)],
        };
        let mut fields = Vec::with_capacity(draft.rows.len());
        let mut inlines = Vec::new();
        for row in &draft.rows {
            match row.strip_prefix("~ ").and_then(|rest| rest.split_once(' ')) {
                Some((tag, name)) => inlines.push((tag.parse().expect("tags in the table are numbers"), resolve(name))),
                None => fields.push(field(row, &resolve)),
            }
        }
        parsed.push((fields, inlines));
    }
    let flat: Vec<Vec<Field>> = (0..parsed.len()).map(|index| flatten(&parsed, index)).collect();
    let messages = drafts.iter().zip(parsed).zip(flat).map(|((draft, (_, inlines)), fields)| Message {
        package: draft.package,
        short: draft.short,
        atomic: draft.atomic,
        fields: fields.leak(),
        inlines: inlines.leak(),
    });
    Schema { messages: messages.collect(), names }
}

fn drafts(table: &'static str) -> (Vec<Draft>, HashMap<&'static str, &'static str>) {
    let mut drafts: Vec<Draft> = Vec::with_capacity(600);
    let mut packages = HashMap::new();
    let mut package = "";
    for line in table.lines() {
        if let Some((alias, name)) = line.strip_prefix('@').and_then(|rest| rest.split_once(' ')) {
            packages.insert(alias, name);
            package = name;
        } else if let (Some(row), Some(draft)) = (line.strip_prefix(' '), drafts.last_mut()) {
            draft.rows.push(row);
        } else {
            let (short, atomic) = line.split_once(' ').map_or((line, false), |(short, _)| (short, true));
            drafts.push(Draft { package, short, atomic, rows: Vec::new() });
        }
    }
    (drafts, packages)
}

fn flatten(parsed: &[Own], index: usize) -> Vec<Field> {
    let (own, inlines) = &parsed[index];
    let mut fields = own.clone();
    for (_, id) in inlines {
        fields.extend(flatten(parsed, id.0 as usize).into_iter().map(|field| Field { inlined: true, ..field }));
    }
    fields
}

fn field(row: &'static str, resolve: &dyn Fn(&'static str) -> MessageId) -> Field {
    let mut words = row.split(' ');
    let mut next = || words.next().unwrap_or_default();
    let (name, tag, ty) = (next(), next(), next());
    let mut field = Field {
        name,
        tag: tag.parse().expect("tags in the table are numbers"),
        inlined: false,
        ty: parse_type(ty, resolve),
        required: false,
        pointer: false,
        omit_empty: true,
        list: ListKind::Atomic,
        atomic: false,
        patch: None,
        default: None,
    };
    for flag in words {
        match flag.split_once(':') {
            None => match flag {
                "!" => field.required = true,
                "*" => field.pointer = true,
                "=" => field.omit_empty = false,
                "set" => field.list = ListKind::Set,
                "atomic" => field.atomic = true,
                _ => unreachable!("unknown flag in the schema table"),
            },
            Some(("map", keys)) => field.list = ListKind::Map(keys.split(',').collect::<Vec<_>>().leak()),
            Some(("patch", patch)) => {
                let (strategy, key) = patch.split_once(':').map_or((patch, None), |(strategy, key)| (strategy, Some(key)));
                field.patch = Some(Patch { strategy, key });
            }
            Some(("default", json)) => field.default = Some(json),
            Some(_) => unreachable!("unknown flag in the schema table"),
        }
    }
    field
}

fn parse_type(text: &'static str, resolve: &dyn Fn(&'static str) -> MessageId) -> Type {
    match text {
        "s" => Type::String,
        "i" => Type::Int32,
        "l" => Type::Int64,
        "b" => Type::Bool,
        "d" => Type::Double,
        "y" => Type::Bytes,
        "Q" => Type::Quantity,
        "O" => Type::IntOrString,
        "T" => Type::Time,
        "U" => Type::MicroTime,
        "D" => Type::Duration,
        "A" => Type::Any,
        "F" => Type::FieldsV1,
        "W" => Type::StringList,
        "J" => Type::JsonUnion,
        "[s]" => Type::List(&Type::String),
        "{s}" => Type::Map(&Type::String),
        "{Q}" => Type::Map(&Type::Quantity),
        _ if text.starts_with('[') => Type::List(Box::leak(Box::new(parse_type(&text[1..text.len() - 1], resolve)))),
        _ if text.starts_with('{') => Type::Map(Box::leak(Box::new(parse_type(&text[1..text.len() - 1], resolve)))),
        name => Type::Message(resolve(name)),
    }
}
