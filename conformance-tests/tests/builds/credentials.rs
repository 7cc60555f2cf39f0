//! A registry that asks for a password: whose it is shown, and where it never shows up.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use kiln_conformance_tests::{Client, Engine, Kiln, Launch, engine};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::image::Image;

/// The registry, and the only account that it knows.
struct Registry {
    host: String,
    user: String,
    password: String,
}

impl Registry {
    fn asking() -> Self {
        let part = |name: &str| engine(&format!("KILN_TEST_REGISTRY_AUTH{name}"));
        Self { host: part(""), user: part("_USER"), password: part("_PASSWORD") }
    }

    /// As `REGISTRY_SECRET` has it. The password has a colon of its own.
    fn pair(&self) -> String {
        assert!(self.password.contains(':'), "the account is there for this case");
        format!("{}:{}", self.user, self.password)
    }

    fn encoded(&self) -> String {
        BASE64_STANDARD.encode(self.pair())
    }

    /// The digest that a tag names there.
    async fn digest(&self, image: &Image) -> Option<String> {
        let url = format!("http://{}/v2/{}/manifests/{}", self.host, image.repository, image.tag);
        let accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.get(url).header("accept", accept).basic_auth(&self.user, Some(&self.password));
        let answer = request.send().await.expect("the registry answers");
        answer.headers().get("docker-content-digest").map(|digest| digest.to_str().unwrap().to_owned())
    }

    /// Panics where the password shows, in any form.
    fn shows_in(&self, what: &str, bytes: &[u8]) {
        for secret in [self.pair(), self.encoded(), format!("{:?}", self.password)] {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "the password stands in {what}");
        }
    }
}

/// A gateway that takes bases out of the development registry and sends nothing there. It logs all it can.
fn elsewhere() -> Launch {
    let bases = format!("[registries.{:?}]\nplain_http = true\n", engine("KILN_TEST_REGISTRY"));
    Launch::on(Engine::Buildkitd).config(&bases).unset("REGISTRY_HOST").set("KILN_LOG", "debug")
}

/// A gateway that sends images there, and has nobody's credential yet.
fn launch(registry: &Registry) -> Launch {
    elsewhere().user("devel").set("REGISTRY_HOST", &registry.host)
}

/// Builds an image under a new name; gives how it ended.
async fn built(client: &Client, image: &Image) -> (String, Value) {
    let id = client.start(&Image::base("no-shell").reference(), &image.target(), "python", None).await;
    let build = client.ended(&id).await;
    (id, build)
}

/// Everything that the gateway has written or says, searched for the password.
async fn nothing_shows_the_password(registry: &Registry, kiln: &Kiln, client: &Client, id: &str) {
    for line in kiln.log() {
        registry.shows_in("the gateway's log", line.to_string().as_bytes());
    }
    for path in [
        format!("/v1/builds/{id}"),
        format!("/v1/builds/{id}/log"),
        "/v1/builds".to_owned(),
        format!("/system/api/v1/build/status?id={id}"),
    ] {
        let answer = client.get(&path).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.text);
        registry.shows_in(&path, answer.text.as_bytes());
    }
    let metrics = Client::new(&kiln.admin, None).get("/metrics").await;
    registry.shows_in("the metrics", metrics.text.as_bytes());
    no_file_shows_it(registry, &kiln.folder().join("data"));
}

fn no_file_shows_it(registry: &Registry, folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            no_file_shows_it(registry, &path);
        } else {
            // A segment of a log may go while it is looked at.
            registry.shows_in(&path.display().to_string(), &std::fs::read(&path).unwrap_or_default());
        }
    }
}

#[tokio::test]
async fn every_way_to_give_the_operators_credential_opens_the_registry() {
    let registry = Registry::asking();
    let folder = tempfile::tempdir().unwrap();
    let config = |name: &str, config: &Value| {
        let folder = folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
        folder.display().to_string()
    };
    let auths = config("auths", &json!({ "auths": { &registry.host: { "auth": registry.encoded() } } }));
    let own_helper = config("own-helper", &json!({ "credHelpers": { &registry.host: "kiln-test" } }));
    let store = config("store", &json!({ "credsStore": "kiln-test", "auths": { &registry.host: {} } }));
    let path = format!("{}:{}", helper(folder.path(), &registry).display(), std::env::var("PATH").unwrap());
    let secret_file = folder.path().join("secret");
    std::fs::write(&secret_file, format!("{}\n", registry.pair())).unwrap();

    for (variable, value) in [
        ("DOCKER_CONFIG", auths),
        ("DOCKER_CONFIG", own_helper),
        ("DOCKER_CONFIG", store),
        ("REGISTRY_PUSH_SECRET", registry.pair()),
        ("KILN_REGISTRY__PUSH_SECRET_FILE", secret_file.display().to_string()),
    ] {
        let kiln = launch(&registry).set("PATH", &path).set(variable, &value).start().await;
        let (client, image) = (kiln.client("devel"), Image::fresh("devel"));
        let (id, build) = built(&client, &image).await;
        assert_eq!(build["state"], "succeeded", "{variable}={value}: {build:#}");
        assert_eq!(build["digest"].as_str().map(str::to_owned), registry.digest(&image).await, "{variable}={value}");
        nothing_shows_the_password(&registry, &kiln, &client, &id).await;
    }
}

/// A credential helper as Docker's tools run it; returns the folder that it lies in.
fn helper(folder: &Path, registry: &Registry) -> std::path::PathBuf {
    let folder = folder.join("bin");
    std::fs::create_dir(&folder).unwrap();
    let program = folder.join("docker-credential-kiln-test");
    let answer = json!({ "ServerURL": registry.host, "Username": registry.user, "Secret": registry.password });
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = get ] && [ \"$(cat)\" = '{}' ] || {{ echo credentials not found in native keychain; exit 1; }}\necho '{answer}'\n",
        registry.host
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

#[tokio::test]
async fn a_wrong_password_or_none_is_push_denied_with_what_to_look_at() {
    let registry = Registry::asking();
    for secret in [Some(format!("{}:not-it", registry.user)), None] {
        let launch = match &secret {
            Some(secret) => launch(&registry).set("REGISTRY_PUSH_SECRET", secret),
            None => launch(&registry),
        };
        let kiln = launch.start().await;
        let (client, image) = (kiln.client("devel"), Image::fresh("devel"));
        let (_, build) = built(&client, &image).await;
        assert_eq!(build["failure"]["reason"], "PushDenied", "{build:#}");
        let message = build["failure"]["message"].as_str().unwrap();
        assert!(message.contains(&registry.host) && message.contains("credential"), "{message}");
        for raw in ["not-it", "failed to solve", "rpc error", "unexpected status", "\n"] {
            assert!(!message.contains(raw), "a sentence for people: {message}");
        }
        assert_eq!(registry.digest(&image).await, None);
    }
}

/// A user of OpenServerless whose environment has `userenv`.
struct User {
    name: String,
    token: String,
}

impl User {
    async fn with(userenv: &[(&str, &str)]) -> Self {
        let (uuid, name) = (Uuid::new_v4().to_string(), format!("devel{}", &Uuid::new_v4().simple().to_string()[..8]));
        let key = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let namespaces = json!([{ "name": name, "uuid": uuid, "key": key }]);
        let userenv: Vec<Value> = userenv.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
        let env = json!([{ "key": "AUTH", "value": "a" }]);
        for (database, document) in [
            ("nuvolaris_subjects", json!({ "subject": name, "namespaces": namespaces })),
            ("nuvolaris_users_metadata", json!({ "login": name, "env": env, "userenv": userenv, "quota": [] })),
        ] {
            let url = format!("{}/{database}", engine("KILN_TEST_COUCHDB"));
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            // Another test may have made it.
            client.put(&url).send().await.expect("CouchDB answers");
            let put = client.put(format!("{url}/{name}")).json(&document).send().await.expect("CouchDB answers");
            assert!(put.status().is_success(), "{database}: {}", put.status());
        }
        Self { name, token: format!("{uuid}:{key}") }
    }

    /// A gateway that knows users from CouchDB alone and has no registry of its own.
    fn launch(&self) -> Launch {
        let couchdb = engine("KILN_TEST_COUCHDB");
        let (host, port) = couchdb.trim_start_matches("http://").split_once(':').unwrap();
        elsewhere()
            .unset("KILN_IDENTITY__USERS_FILE")
            .set("COUCHDB_SERVICE_HOST", host)
            .set("COUCHDB_SERVICE_PORT", port)
            .set("COUCHDB_ADMIN_PASSWORD", "unasked")
    }

    fn client(&self, kiln: &Kiln) -> Client {
        kiln.anonymous().with_token(&self.token)
    }
}

#[tokio::test]
async fn a_users_own_registry_takes_the_users_own_credential_and_it_shows_nowhere() {
    let registry = Registry::asking();
    let user = User::with(&[("REGISTRY_HOST", &registry.host), ("REGISTRY_SECRET", &registry.pair())]).await;
    let launch = user.launch().set("KILN_REGISTRY__ALLOWED_USER_REGISTRIES", format!("[{:?}]", registry.host));
    let kiln = launch.start().await;
    let client = user.client(&kiln);
    let (base, image) = (Image::base("extendable").reference(), Image::fresh(&user.name));
    let id = client.start(&base, &image.target(), "python", Some("first")).await;
    // Accepted is on disk: sealed.
    no_file_shows_it(&registry, &kiln.folder().join("data"));
    let build = client.ended(&id).await;
    assert_eq!(build["state"], "succeeded", "{build:#}");
    assert_eq!(build["image"], format!("{}/{}", registry.host, image.target()));
    assert_eq!(build["digest"].as_str().map(str::to_owned), registry.digest(&image).await);
    nothing_shows_the_password(&registry, &kiln, &client, &id).await;

    // The user's own image is a base that only their credential opens.
    let upon = Image::fresh(&user.name);
    let own = format!("{}/{}", registry.host, image.target());
    let id = client.start(&own, &upon.target(), "python", Some("second")).await;
    let build = client.ended(&id).await;
    assert_eq!(build["state"], "succeeded", "{build:#}");
    assert_eq!(build["digest"].as_str().map(str::to_owned), registry.digest(&upon).await);
    nothing_shows_the_password(&registry, &kiln, &client, &id).await;
    let id = client.start(&own.replace(&image.tag, "none"), &upon.target(), "python", Some("third")).await;
    assert_eq!(client.ended(&id).await["failure"]["reason"], "BaseNotFound");
}

#[tokio::test]
async fn a_users_registry_at_an_address_that_is_not_public_is_refused_unless_permitted() {
    let registry = Registry::asking();
    let user = User::with(&[("REGISTRY_HOST", &registry.host), ("REGISTRY_SECRET", &registry.pair())]).await;
    let kiln = user.launch().start().await;
    let (client, image) = (user.client(&kiln), Image::fresh(&user.name));
    let (id, build) = built(&client, &image).await;
    assert_eq!(build["failure"]["reason"], "PushDenied", "{build:#}");
    let message = build["failure"]["message"].as_str().unwrap();
    assert!(message.contains("registry.allowed_user_registries"), "{message}");
    assert_eq!(registry.digest(&image).await, None);
    nothing_shows_the_password(&registry, &kiln, &client, &id).await;
}
