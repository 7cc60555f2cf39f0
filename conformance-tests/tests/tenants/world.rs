//! What all tenants share: the gateway, and what each may have heard of the others.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use axum::{Router, body::to_bytes};
use tokio::time::timeout;
use tower::ServiceExt as _;
use uuid::Uuid;

use crate::asking::{Answer, Asking};

/// A tenant's repositories, below their name.
pub(crate) const REPOSITORIES: [&str; 3] = ["", "/app", "/app-2"];
/// For one answer.
const PATIENCE: Duration = Duration::from_secs(60);
const ANSWER_AT_MOST: usize = 4 << 20;
/// How much is kept of what was heard.
const HEARD: usize = 200;

pub(crate) struct World {
    router: Router,
    pub(crate) tenants: Vec<Tenant>,
    heard: Vec<Mutex<Heard>>,
    owners: Mutex<HashMap<String, usize>>,
}

pub(crate) struct Tenant {
    pub(crate) name: String,
    pub(crate) token: String,
    /// Of their archives.
    pub(crate) key: String,
    /// A word in all that is theirs, which nobody else can know.
    pub(crate) mark: String,
}

/// What others know of a tenant, as if it had leaked.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) builds: Vec<String>,
    /// Ids of content that was ensured.
    pub(crate) contents: Vec<String>,
    /// `repository:tag`, and `repository@digest`.
    pub(crate) images: Vec<String>,
    /// Cursors of their list of builds.
    pub(crate) cursors: Vec<String>,
    /// Files that they sent, in base64.
    pub(crate) files: Vec<String>,
    /// Idempotency keys.
    pub(crate) keys: Vec<String>,
}

impl Tenant {
    pub(crate) fn of(name: &str, token: &str, key: &str) -> Self {
        let mark = format!("m{}", Uuid::new_v4().simple());
        Self { name: name.to_owned(), token: token.to_owned(), key: key.to_owned(), mark }
    }

    pub(crate) fn repository(&self, below: &str) -> String {
        format!("{}{below}", self.name)
    }
}

impl World {
    pub(crate) fn of(router: Router, tenants: Vec<Tenant>) -> Self {
        let heard = tenants.iter().map(|_| Mutex::default()).collect();
        Self { router, tenants, heard, owners: Mutex::default() }
    }

    pub(crate) fn heard(&self, of: usize) -> MutexGuard<'_, Heard> {
        self.heard[of].lock().unwrap()
    }

    /// Notes whose a build is; nobody else's, and whether it is new.
    pub(crate) fn owns(&self, who: usize, build: &str) -> bool {
        let mut owners = self.owners.lock().unwrap();
        let new = !owners.contains_key(build);
        assert_eq!(*owners.entry(build.to_owned()).or_insert(who), who, "{build} is another's");
        new
    }

    pub(crate) async fn send(&self, asking: &Asking) -> Answer {
        let answer = async {
            let Ok(response) = self.router.clone().oneshot(asking.request()).await;
            let status = response.status().as_u16();
            let location = response.headers().get("location").map_or("", |location| location.to_str().unwrap());
            let location = location.to_owned();
            let body = to_bytes(response.into_body(), ANSWER_AT_MOST).await.unwrap();
            Answer { status, location, text: String::from_utf8_lossy(&body).into_owned() }
        };
        timeout(PATIENCE, answer).await.unwrap_or_else(|_| panic!("no answer to {asking:?}"))
    }

    /// The cookie that an answer sets.
    pub(crate) async fn cookie(&self, asking: &Asking) -> String {
        let Ok(response) = self.router.clone().oneshot(asking.request()).await;
        let cookie = response.headers().get("set-cookie").expect("a cookie").to_str().unwrap();
        cookie.split(';').next().unwrap().to_owned()
    }

    /// As this tenant, who sees nothing in the answer that only another could know.
    pub(crate) async fn send_as(&self, me: usize, asking: &Asking) -> Answer {
        let answer = self.send(asking).await;
        assert!(answer.status < 500, "{asking:?}: {answer:?}");
        for (of, other) in self.tenants.iter().enumerate() {
            let seen = of != me && answer.text.contains(&other.mark) && !asking.knows(&other.mark);
            assert!(!seen, "{} saw what is {}'s: {asking:?}: {answer:?}", self.tenants[me].name, other.name);
        }
        answer
    }
}

/// Keeps one more, in the place of an older one if there are many.
pub(crate) fn hear(of: &mut Vec<String>, what: String, pick: u32) {
    if of.len() < HEARD {
        of.push(what);
    } else {
        of[pick as usize % HEARD] = what;
    }
}

/// One of these by chance.
pub(crate) fn one(of: &[String], pick: u32) -> Option<String> {
    (!of.is_empty()).then(|| of[pick as usize % of.len()].clone())
}
