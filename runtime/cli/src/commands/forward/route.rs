//! What is forwarded: from a port of this machine to a port of whichever pod is ready.

use serde_json::Value;
use strake_plan::{Change, DeployPlan};

/// Kinds whose pods have declared ports.
const WORKLOADS: [&str; 4] = ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"];

/// Which pods take the connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pods {
    /// This one.
    Named(String),
    /// Those with these labels.
    Labelled(String),
}

/// A port inside a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Port {
    /// By number.
    Number(u16),
    /// By the name that a container gives it.
    Name(String),
}

/// One port of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The namespace.
    pub namespace: String,
    /// `service/web`.
    pub what: String,
    /// Who answers.
    pub pods: Pods,
    /// Where they answer.
    pub port: Port,
    /// The port as the object calls it.
    pub shown: u16,
}

impl Route {
    /// What tells routes apart.
    pub fn key(&self) -> (String, String, u16) {
        (self.namespace.clone(), self.what.clone(), self.shown)
    }

    /// The number on this machine that people expect: the same, or one that is not the system's.
    pub fn wished(&self) -> u16 {
        if self.shown < 1024 { self.shown + 8000 } else { self.shown }
    }

    /// The port's number inside a pod.
    pub fn number(&self, pod: &Value) -> Option<u16> {
        match &self.port {
            Port::Number(number) => Some(*number),
            Port::Name(name) => {
                let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
                let port = containers.flat_map(container_ports).find(|port| port["name"] == name.as_str())?;
                number(&port["containerPort"])
            }
        }
    }
}

pub fn number(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0)
}

fn is_tcp(port: &Value) -> bool {
    matches!(port["protocol"].as_str(), None | Some("TCP"))
}

fn container_ports(container: &Value) -> impl Iterator<Item = &Value> {
    container["ports"].as_array().into_iter().flatten().filter(|port| is_tcp(port))
}

/// `a=b,c=d` of a mapping; `None` when it selects nothing.
pub fn selector(labels: &Value) -> Option<String> {
    let pairs: Vec<String> = labels.as_object()?.iter().filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?))).collect();
    (!pairs.is_empty()).then(|| pairs.join(","))
}

/// A Service's port inside the pods.
pub fn target(port: &Value) -> Option<Port> {
    match &port["targetPort"] {
        Value::Null => number(&port["port"]).map(Port::Number),
        Value::String(name) => Some(name.parse().map_or_else(|_| Port::Name(name.clone()), Port::Number)),
        other => number(other).map(Port::Number),
    }
}

/// The routes of a Service.
pub fn of_service(namespace: &str, service: &Value) -> Vec<Route> {
    let Some(labels) = selector(&service["spec"]["selector"]) else { return Vec::new() };
    let what = format!("service/{}", service["metadata"]["name"].as_str().unwrap_or_default());
    let ports = service["spec"]["ports"].as_array().into_iter().flatten().filter(|port| is_tcp(port));
    let route = |port: &Value| {
        let pods = Pods::Labelled(labels.clone());
        Some(Route { namespace: namespace.to_owned(), what: what.clone(), pods, port: target(port)?, shown: number(&port["port"])? })
    };
    ports.filter_map(route).collect()
}

/// The routes of a plan: its Services, and the declared ports of workloads that none of them leads to.
pub fn of_plan(plan: &DeployPlan) -> Vec<Route> {
    let services = plan.changes.iter().filter(|change| change.id.kind == "Service" && change.id.group.is_empty());
    let mut routes: Vec<Route> = services.clone().flat_map(|change| of_service(&change.id.namespace, &change.object)).collect();
    let covered = |change: &Change| {
        let labels = &change.object["spec"]["template"]["metadata"]["labels"];
        services.clone().any(|service| {
            let wanted = service.object["spec"]["selector"].as_object();
            service.id.namespace == change.id.namespace
                && wanted.is_some_and(|wanted| !wanted.is_empty() && wanted.iter().all(|(key, value)| labels.get(key) == Some(value)))
        })
    };
    for change in plan.changes.iter().filter(|change| WORKLOADS.contains(&change.id.kind.as_str()) && !covered(change)) {
        let Some(labels) = selector(&change.object["spec"]["selector"]["matchLabels"]) else { continue };
        let containers = change.object["spec"]["template"]["spec"]["containers"].as_array().into_iter().flatten();
        for shown in containers.flat_map(container_ports).filter_map(|port| number(&port["containerPort"])) {
            let what = format!("{}/{}", change.id.kind.to_lowercase(), change.id.name);
            let pods = Pods::Labelled(labels.clone());
            routes.push(Route { namespace: change.id.namespace.clone(), what, pods, port: Port::Number(shown), shown });
        }
    }
    routes.dedup_by_key(|route| route.key());
    routes
}

/// The pod that a new connection goes to: ready, not on its way out, the youngest.
pub fn choose(pods: Vec<Value>) -> Option<Value> {
    let living = pods.into_iter().filter(is_taking);
    living.max_by_key(|pod| pod["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned())
}

/// Whether a pod takes connections.
pub fn is_taking(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    pod["metadata"]["deletionTimestamp"].is_null() && conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Port, choose, of_service};

    #[test]
    fn the_ports_of_a_service_lead_into_its_pods() {
        let service = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [
            {"port": 80, "targetPort": 8080}, {"port": 81, "targetPort": "admin"}, {"port": 9000}, {"port": 53, "protocol": "UDP"}]}});
        let routes = of_service("shop", &service);
        let found: Vec<(u16, u16, &Port)> = routes.iter().map(|route| (route.shown, route.wished(), &route.port)).collect();
        let admin = Port::Name("admin".to_owned());
        assert_eq!(found, [(80, 8080, &Port::Number(8080)), (81, 8081, &admin), (9000, 9000, &Port::Number(9000))]);
        let pod = json!({"spec": {"containers": [{"ports": [{"name": "admin", "containerPort": 8443}]}]}});
        assert_eq!((routes[0].number(&pod), routes[1].number(&pod)), (Some(8080), Some(8443)));
        assert_eq!(routes[1].number(&json!({})), None);
        assert!(of_service("shop", &json!({"spec": {"ports": [{"port": 1}]}})).is_empty(), "nothing is selected");
    }

    #[test]
    fn the_youngest_ready_pod_takes_connections() {
        let pod = |name: &str, made: &str, ready: &str, gone: bool| {
            let mut pod = json!({"metadata": {"name": name, "creationTimestamp": made}, "status": {"conditions": [{"type": "Ready", "status": ready}]}});
            if gone {
                pod["metadata"]["deletionTimestamp"] = "x".into();
            }
            pod
        };
        let pods = vec![pod("old", "1", "True", false), pod("new", "2", "True", false), pod("newest", "3", "False", false), pod("gone", "4", "True", true)];
        assert_eq!(choose(pods).map(|pod| pod["metadata"]["name"].clone()), Some("new".into()));
        assert_eq!(choose(vec![pod("a", "1", "False", false)]), None);
    }
}
