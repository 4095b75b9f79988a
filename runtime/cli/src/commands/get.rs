//! strake get

use std::path::Path;

use serde_json::{Value, json};
use strake_client::{Client, ClientError, ListParams, Resource, Table, WatchKind};

use crate::args::{Format, Get};
use crate::connect::connect;
use crate::failure::Failure;
use crate::output::{Columns, closed, data, note, say};
use crate::select::{Selection, namespace, parse, unsupported};

/// Lists objects.
pub async fn run(root: &Path, args: &Get) -> Result<(), Failure> {
    let client = connect(root, &args.scope.target).await?;
    let selections = parse(&args.what)?;
    if args.watch {
        return match &selections[..] {
            [one] if one.names.len() < 2 => watch(&client, args, one).await,
            _ => Err(Failure::text("-w follows one object, or all of one kind")),
        };
    }
    match args.output.as_deref() {
        Some("yaml" | "json") => objects(&client, args, &selections).await,
        _ => tables(&client, args, &selections).await,
    }
}

fn params(args: &Get) -> ListParams {
    ListParams { label_selector: args.selector.clone(), field_selector: args.field_selector.clone(), ..ListParams::default() }
}

fn place<'a>(args: &'a Get, resource: &Resource) -> Option<&'a str> {
    if args.all_namespaces { None } else { namespace(resource, &args.scope.namespace) }
}

async fn fetch(client: &Client, args: &Get, selection: &Selection) -> Result<Vec<Value>, Failure> {
    let resource = &selection.resource;
    if selection.names.is_empty() {
        let listed = client.list(resource, place(args, resource), &params(args)).await;
        return Ok(listed.map_err(|error| refused(resource, error))?.items);
    }
    let mut items = Vec::new();
    for name in &selection.names {
        let found = client.get(resource, namespace(resource, &args.scope.namespace), name).await?;
        items.push(found.ok_or_else(|| missing(resource, name, &args.scope.namespace))?);
    }
    Ok(items)
}

/// The message for an object that is not there.
pub fn missing(resource: &Resource, name: &str, space: &str) -> Failure {
    let place = if resource.namespaced { format!(" in namespace {space}") } else { String::new() };
    Failure::text(format!("{} {name} not found{place}{}", resource.kind.to_lowercase(), unsupported(resource)))
}

/// The message for a list that is refused: a cluster without the kind says only that it does not find it.
pub fn refused(resource: &Resource, error: ClientError) -> Failure {
    if !error.is_not_found() {
        return error.into();
    }
    let group = if resource.group.is_empty() { resource.version.to_string() } else { format!("{}/{}", resource.group, resource.version) };
    Failure::text(format!("the cluster does not serve {} ({group}){}", resource.plural, unsupported(resource)))
}

/// What is said instead of an empty table.
pub fn nothing_found(space: Option<&str>) -> String {
    space.map_or_else(|| "No resources found.".to_owned(), |space| format!("No resources found in namespace {space}."))
}

async fn objects(client: &Client, args: &Get, selections: &[Selection]) -> Result<(), Failure> {
    let mut items = Vec::new();
    for selection in selections {
        items.extend(fetch(client, args, selection).await?);
    }
    let single = selections.len() == 1 && selections[0].names.len() == 1;
    let value = if single { items.remove(0) } else { json!({"apiVersion": "v1", "kind": "List", "items": items}) };
    let format = if args.output.as_deref() == Some("yaml") { Format::Yaml } else { Format::Json };
    say(data(&value, format));
    Ok(())
}

async fn tables(client: &Client, args: &Get, selections: &[Selection]) -> Result<(), Failure> {
    let mut shown = 0;
    for selection in selections {
        let resource = &selection.resource;
        let mut found = Table::default();
        if selection.names.is_empty() {
            let listed = client.table(resource, place(args, resource), None, &params(args)).await;
            found = listed.map_err(|error| refused(resource, error))?;
        }
        for name in &selection.names {
            let one = client.table(resource, namespace(resource, &args.scope.namespace), Some(name), &ListParams::default()).await;
            let one = one.map_err(|error| if error.is_not_found() { missing(resource, name, &args.scope.namespace) } else { error.into() })?;
            found.column_definitions = one.column_definitions;
            found.rows.extend(one.rows);
        }
        if found.rows.is_empty() {
            continue;
        }
        if args.output.as_deref() == Some("name") {
            found.rows.iter().for_each(|row| say(named(resource, row.object["metadata"]["name"].as_str().unwrap_or_default())));
        } else {
            if shown > 0 {
                say("");
            }
            let prefix = if selections.len() > 1 { named(resource, "") } else { String::new() };
            let shape = Shape { wide: args.output.as_deref() == Some("wide"), namespaces: args.all_namespaces && resource.namespaced, prefix };
            say(shape.print(&found));
        }
        shown += found.rows.len();
    }
    if shown == 0 && args.output.as_deref() != Some("name") {
        let scoped = !args.all_namespaces && selections.iter().any(|selection| selection.resource.namespaced);
        note(nothing_found(scoped.then_some(args.scope.namespace.as_str())));
    }
    Ok(())
}

/// `pod/web`, `deployment.apps/web`.
fn named(resource: &Resource, name: &str) -> String {
    let kind = resource.kind.to_lowercase();
    if resource.group.is_empty() { format!("{kind}/{name}") } else { format!("{kind}.{}/{name}", resource.group) }
}

/// How a table is shown.
pub struct Shape {
    /// With the columns that are shown only when asked for.
    pub wide: bool,
    /// With each object's namespace.
    pub namespaces: bool,
    /// What stands before each name.
    pub prefix: String,
}

impl Shape {
    /// The whole table.
    pub fn print(&self, found: &Table) -> String {
        let (header, rows) = (self.header(found), self.rows(found));
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        crate::output::table(&header, &rows)
    }

    fn columns<'a>(&self, found: &'a Table) -> impl Iterator<Item = usize> + use<'a> {
        let wide = self.wide;
        (0..found.column_definitions.len()).filter(move |index| wide || found.column_definitions[*index].priority == 0)
    }

    fn header(&self, found: &Table) -> Vec<String> {
        let space = self.namespaces.then(|| "NAMESPACE".to_owned());
        space.into_iter().chain(self.columns(found).map(|index| found.column_definitions[index].name.to_uppercase())).collect()
    }

    fn rows(&self, found: &Table) -> Vec<Vec<String>> {
        let cell = |value: &Value| match value {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        let row = |row: &strake_client::Row| {
            let mut cells: Vec<String> = self.columns(found).map(|index| row.cells.get(index).map(cell).unwrap_or_default()).collect();
            if let Some(name) = cells.first_mut() {
                name.insert_str(0, &self.prefix);
            }
            if self.namespaces {
                cells.insert(0, row.object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned());
            }
            cells
        };
        found.rows.iter().map(row).collect()
    }
}

/// What -w writes, in each form of output.
struct Follower<'a> {
    client: &'a Client,
    resource: &'a Resource,
    output: Option<&'a str>,
    shape: Shape,
    columns: Columns,
    headed: bool,
}

impl Follower<'_> {
    /// What is there at first, under its header.
    fn begin(&mut self, found: &Table) {
        if found.rows.is_empty() {
            return;
        }
        let header = self.shape.header(found);
        self.columns.fit(&header);
        let rows = self.shape.rows(found);
        rows.iter().for_each(|row| self.columns.fit(row));
        if !self.headed {
            say(self.columns.line(&header));
            self.headed = true;
        }
        rows.iter().for_each(|row| say(self.columns.line(row)));
    }

    async fn change(&mut self, object: &Value, deleted: bool) -> Result<(), Failure> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        match self.output {
            Some("name") => say(format!("{}{}", named(self.resource, name), if deleted { " deleted" } else { "" })),
            Some("yaml") => say(format!("---\n{}", data(object, Format::Yaml))),
            Some("json") => say(data(object, Format::Json)),
            _ if deleted => say(format!("{name}   (deleted)")),
            _ => {
                let row = self.client.table(self.resource, object["metadata"]["namespace"].as_str(), Some(name), &ListParams::default()).await;
                match row {
                    Ok(row) => self.begin(&row),
                    // Gone again: its deletion is the next event.
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}

/// A line (or an object) for every change, until interrupted or until nobody reads on.
async fn watch(client: &Client, args: &Get, selection: &Selection) -> Result<(), Failure> {
    let resource = &selection.resource;
    let mut params = params(args);
    if let [name] = &selection.names[..] {
        params.field_selector = Some(format!("metadata.name={name}"));
    }
    let place = place(args, resource);
    let shape = Shape { wide: args.output.as_deref() == Some("wide"), namespaces: args.all_namespaces && resource.namespaced, prefix: String::new() };
    let mut follower = Follower { client, resource, output: args.output.as_deref(), shape, columns: Columns::default(), headed: false };
    let mut version = if matches!(args.output.as_deref(), Some("yaml" | "json" | "name")) {
        let list = client.list(resource, place, &params).await.map_err(|error| refused(resource, error))?;
        for object in &list.items {
            follower.change(object, false).await?;
        }
        list.resource_version
    } else {
        let found = client.table(resource, place, None, &params).await.map_err(|error| refused(resource, error))?;
        follower.begin(&found);
        found.metadata["resourceVersion"].as_str().unwrap_or("0").to_owned()
    };
    while !closed() {
        let mut events = client.watch(resource, place, &params, &version).await?;
        while let Some(event) = futures::StreamExt::next(&mut events).await {
            let event = event?;
            version = event.resource_version().to_owned();
            if event.kind != WatchKind::Bookmark {
                follower.change(&event.object, event.kind == WatchKind::Deleted).await?;
            }
            if closed() {
                break;
            }
        }
    }
    Ok(())
}
