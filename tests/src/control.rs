//! The control port of an instance, as its clients see it: by requests, and by `loginscope plugin`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use ureq::http::Request;

use crate::instance::{Ended, Instance, run_to_its_end, wait_until};

/// The token of all instances of tests that have one.
pub const TOKEN: &str = "correct-horse-battery-staple";

/// The control port of an instance.
#[derive(Clone, Debug)]
pub struct Control {
    url: String,
    agent: ureq::Agent,
}

impl Control {
    /// That of an instance, when it is there.
    pub fn of(instance: &mut Instance) -> Self {
        let line = instance.line_with("plugins at /v1/plugins");
        let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
        let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build();
        Self { url: format!("http://{address}"), agent: config.new_agent() }
    }

    /// That of an instance, when it is ready.
    pub fn when_ready(instance: &mut Instance) -> Self {
        let control = Self::of(instance);
        wait_until("it to be ready", String::new, || instance.get("/readyz").starts_with("HTTP/1.1 200").then_some(()));
        control
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What a request comes to with this token, or none where that is empty: its status and its body.
    ///
    /// # Errors
    /// The connection ends before there is an answer.
    pub fn ask(&self, method: &str, path: &str, token: &str, body: &str) -> Result<(u16, String), ureq::Error> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        request = request.header("Content-Type", "application/json");
        if !token.is_empty() {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let mut response = self.agent.run(request.body(body.to_owned())?)?;
        Ok((response.status().as_u16(), response.body_mut().read_to_string()?))
    }

    /// Deploys a component. None: the connection ended before there was an answer.
    pub fn try_deploy(&self, component: &[u8], settings: &Value) -> Option<Value> {
        let deployment = json!({ "component": STANDARD.encode(component), "settings": settings });
        let (_, body) = self.ask("POST", "/v1/plugins", TOKEN, &deployment.to_string()).ok()?;
        serde_json::from_str(&body).ok()
    }

    /// Deploys a component and answers what came of it.
    pub fn deploy(&self, component: &[u8], settings: &Value) -> Value {
        self.try_deploy(component, settings).expect("an answer")
    }

    /// What it says of its plugins.
    pub fn plugins(&self) -> Value {
        let (status, body) = self.ask("GET", "/v1/plugins", TOKEN, "").expect("an answer");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// The generation that serves.
    pub fn generation(&self) -> u64 {
        self.plugins()["generation"].as_u64().expect("a number")
    }

    /// The generation that serves, and the names of its plugins in order.
    pub fn names(&self) -> (u64, Vec<String>) {
        let plugins = self.plugins();
        let name = |plugin: &Value| plugin["name"].as_str().expect("a name").to_owned();
        let names = plugins["plugins"].as_array().expect("plugins").iter().map(name).collect();
        (plugins["generation"].as_u64().expect("a number"), names)
    }

    /// `loginscope plugin` with these arguments.
    pub fn plugin(&self, arguments: &[&str]) -> Ended {
        run_to_its_end(["plugin", "--control", &self.url, "--control-token", TOKEN].iter().chain(arguments))
    }

    /// `loginscope plugin` with these arguments, which must work: answers what it writes.
    pub fn done(&self, arguments: &[&str]) -> String {
        let Ended { code, output, log } = self.plugin(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {output}{log}");
        output
    }
}
