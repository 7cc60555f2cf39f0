//! One tenant, who does one thing after the other, and knows what has to be theirs by then.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
};

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use kiln_conformance_tests::{engine, kiln::base};
use serde_json::{Value, json};

use crate::{
    asking::{Answer, Asking},
    gateway::{BUILDER, HOLD},
    moves::{Move, OfBuild, Operation},
    world::{REPOSITORIES, Tenant, World, hear, one},
};

const BUILDS: &str = "/v1/builds";
const IMAGES: &str = "/v1/images";
const DOOR: &str = "/system/api/v1/build";
/// What is of nobody, of each kind.
const NO_BUILD: &str = "01938d2e-0000-7000-8000-000000000000";
const NO_IMAGE: &str = "nobody/app:none";
/// Tags that builds are put under, one after the other and again; and copies.
const TAGS: u32 = 12;

pub(crate) struct Player {
    world: Arc<World>,
    me: usize,
    cookie: String,
    builds: BTreeMap<String, End>,
    /// The digest of each image, by `repository:tag`.
    images: BTreeMap<String, String>,
    /// The ids of ensured content.
    ensured: Vec<String>,
    /// What is answered of what isn't there, by the way it was asked for.
    nothings: Mutex<HashMap<String, Answer>>,
    /// Counts what is to be unlike all before.
    count: u32,
}

/// How a build has to have ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// Not before its owner cancels it.
    Held,
    Cancelled,
    Succeeded,
}

impl Player {
    pub(crate) async fn of(world: Arc<World>, me: usize) -> Self {
        let mut player = Self {
            world,
            me,
            cookie: String::new(),
            builds: BTreeMap::new(),
            images: BTreeMap::new(),
            ensured: Vec::new(),
            nothings: Mutex::default(),
            count: 0,
        };
        let form = format!("token={}&to=%2F", player.tenant().token.replace(':', "%3A"));
        let signed_in = player.form("/sign-in", &form);
        player.cookie = player.world.cookie(&signed_in).await;
        player
    }

    fn tenant(&self) -> &Tenant {
        &self.world.tenants[self.me]
    }

    pub(crate) async fn play(&mut self, next: Move) {
        let Move { operation, theirs, picks } = next;
        match operation {
            Operation::OfBuild(what) if theirs => self.anothers_build(what, picks).await,
            Operation::OfBuild(what) => self.own_build(what, picks).await,
            Operation::CreateBuild => self.create(theirs, picks).await,
            Operation::ListBuilds => self.list(theirs, picks).await,
            Operation::ListCatalogs => self.catalogues(IMAGES, theirs, picks).await,
            Operation::GetImages => self.look(theirs, picks).await,
            Operation::DeleteImage => self.delete(theirs, picks).await,
            Operation::CopyImage => self.copy(theirs, picks).await,
            Operation::Whoami => self.whoami().await,
            Operation::Start => self.start(theirs, picks).await,
            Operation::Cleanup => self.cleanup().await,
            Operation::Capabilities => drop(self.send(&self.api("GET", format!("{DOOR}/capabilities"))).await),
            Operation::Ensure => self.ensure(picks).await,
            Operation::Ensured => self.ensured(theirs, picks).await,
            Operation::PageList => self.page_list(theirs, picks).await,
            Operation::PageCatalogues => self.catalogues("/images", theirs, picks).await,
            Operation::PageImages => self.page_look(theirs, picks).await,
            Operation::PageDelete => self.page_delete(theirs, picks).await,
            Operation::Archive => self.archive(theirs, picks).await,
        }
    }

    /// That all is there that has to be, and no build more.
    pub(crate) async fn find_all(&mut self) {
        for (name, digest) in self.images.clone() {
            self.finds(&name, &digest).await;
        }
        let (mut left, mut cursor) = (self.builds.clone(), String::new());
        loop {
            let page = self.send(&self.api("GET", format!("{BUILDS}?limit=100{cursor}"))).await.json();
            for build in page["builds"].as_array().expect("a list") {
                let end = left.remove(build["id"].as_str().unwrap());
                assert_eq!(end.map(Self::words), Some(Self::words_of(build)), "{build}");
            }
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(left, BTreeMap::new(), "{} has lost builds", self.tenant().name);
    }

    // === How it asks ===

    fn api(&self, method: &'static str, path: impl Into<String>) -> Asking {
        Asking::of(method, path).with("authorization", &self.tenant().token)
    }

    fn page(&self, path: impl Into<String>) -> Asking {
        Asking::of("GET", path).with("cookie", &self.cookie)
    }

    /// A form of the page's own.
    fn form(&self, path: impl Into<String>, fields: &str) -> Asking {
        let asking = Asking::of("POST", path).with("cookie", &self.cookie).with("sec-fetch-site", "same-origin");
        asking.body("application/x-www-form-urlencoded", fields.to_owned())
    }

    async fn send(&self, asking: &Asking) -> Answer {
        self.world.send_as(self.me, asking).await
    }

    /// That what is another's is answered as what isn't there, and refused.
    async fn nothing(&self, ask: impl Fn(&str) -> Asking, theirs: &str, none: &str) {
        let (asked, there) = (ask(theirs), self.send(&ask(theirs)).await);
        let not = self.answer_to_none(&ask(none)).await;
        assert!((400..500).contains(&there.status), "{asked:?}: {there:?}");
        let said = |answer: &Answer, name: &str| (answer.status, self.without(&answer.text, name));
        assert_eq!(said(&there, theirs), said(&not, none), "{asked:?} tells what there is");
    }

    /// What is answered of what isn't there: asked once in each way.
    async fn answer_to_none(&self, asking: &Asking) -> Answer {
        let way = format!("{asking:?}");
        let known = self.nothings.lock().unwrap().get(&way).cloned();
        match known {
            Some(answer) => answer,
            None => {
                let answer = self.send(asking).await;
                self.nothings.lock().unwrap().entry(way).or_insert(answer).clone()
            }
        }
    }

    /// What a refusal says beside the name that was asked for, its repository's and the tenant's own.
    fn without(&self, text: &str, name: &str) -> String {
        let repository = name.split([':', '@']).next().unwrap_or_default();
        let mut names = [(name, "NAME"), (repository, "NAME"), (&*self.tenant().name, "OWN")];
        // One may begin another.
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        names.iter().fold(text.to_owned(), |text, (name, instead)| text.replace(name, instead))
    }

    /// Another tenant, by chance.
    fn another(&self, pick: u32) -> usize {
        let others = self.world.tenants.len() - 1;
        (self.me + 1 + pick as usize % others) % self.world.tenants.len()
    }

    // === Builds ===

    fn of_build(&self, what: OfBuild, id: &str) -> Asking {
        match what {
            OfBuild::Get => self.api("GET", format!("{BUILDS}/{id}")),
            OfBuild::Wait => self.api("GET", format!("{BUILDS}/{id}/wait?timeout=0")),
            OfBuild::Cancel => self.api("POST", format!("{BUILDS}/{id}/cancel")),
            OfBuild::Retry => self.api("POST", format!("{BUILDS}/{id}/retry")),
            OfBuild::Webhook => self.api("GET", format!("{BUILDS}/{id}/webhook")),
            OfBuild::Log => self.api("GET", format!("{BUILDS}/{id}/log")).with("accept", "text/plain"),
            OfBuild::Status => self.api("GET", format!("{DOOR}/status?id={id}")),
            OfBuild::PageBuild => self.page(format!("/builds/{id}")),
            OfBuild::PageLog => self.page(format!("/builds/{id}/log")),
            OfBuild::PageCancel => self.form(format!("/builds/{id}/cancel"), ""),
            OfBuild::PageRetry => self.form(format!("/builds/{id}/retry"), ""),
        }
    }

    async fn anothers_build(&self, what: OfBuild, [whose, which, _]: [u32; 3]) {
        let theirs = one(&self.world.heard(self.another(whose)).builds, which);
        if let Some(theirs) = theirs {
            self.nothing(|id| self.of_build(what, id), &theirs, NO_BUILD).await;
        }
    }

    async fn own_build(&mut self, what: OfBuild, [which, pick, _]: [u32; 3]) {
        let Some((id, end)) = self.builds.iter().nth(which as usize % self.builds.len().max(1)) else { return };
        let (id, end) = (id.clone(), *end);
        // Both follow a build until it ends.
        if end == End::Held && matches!(what, OfBuild::Log | OfBuild::PageLog | OfBuild::PageBuild) {
            return;
        }
        // It would be held, too, and more of those than one take all places.
        if end == End::Cancelled && self.holds() && matches!(what, OfBuild::Retry | OfBuild::PageRetry) {
            return;
        }
        let asked = self.of_build(what, &id);
        let answer = self.send(&asked).await;
        let expected: &[u16] = match what {
            OfBuild::Cancel => &[202],
            OfBuild::Webhook => &[404],
            OfBuild::Retry => &[202, 200, 409],
            OfBuild::PageCancel => &[303],
            OfBuild::PageRetry => &[303, 409],
            _ => &[200],
        };
        assert!(expected.contains(&answer.status), "{end:?}: {asked:?}: {answer:?}");
        match what {
            OfBuild::Get | OfBuild::Wait => self.is_own(&answer.json(), end),
            OfBuild::Cancel | OfBuild::PageCancel if end == End::Held => self.cancelled(&id).await,
            OfBuild::Retry if answer.status != 409 => self.adopt(answer.json()["id"].as_str().unwrap(), pick).await,
            OfBuild::PageRetry if answer.status == 303 => {
                self.adopt(answer.location.strip_prefix("/builds/").unwrap(), pick).await;
            }
            _ => {}
        }
    }

    fn holds(&self) -> bool {
        self.builds.values().any(|end| *end == End::Held)
    }

    fn is_own(&self, build: &Value, end: End) {
        assert_eq!(build["owner"], self.tenant().name, "{build}");
        assert_eq!(Self::words_of(build), Self::words(end), "{build}");
    }

    fn words(end: End) -> &'static str {
        match end {
            End::Held => "held",
            End::Cancelled => "cancelled",
            End::Succeeded => "succeeded",
        }
    }

    fn words_of(build: &Value) -> &str {
        match build["state"].as_str().unwrap() {
            "queued" | "running" => "held",
            other => other,
        }
    }

    async fn ended(&self, id: &str) -> Value {
        self.send(&self.api("GET", format!("{BUILDS}/{id}/wait?timeout=50"))).await.json()
    }

    async fn cancelled(&mut self, id: &str) {
        self.is_own(&self.ended(id).await, End::Cancelled);
        self.builds.insert(id.to_owned(), End::Cancelled);
    }

    /// A build is this tenant's from now on: nobody else's, and it ends as it has to.
    async fn adopt(&mut self, id: &str, pick: u32) {
        let new = self.world.owns(self.me, id);
        if new {
            hear(&mut self.world.heard(self.me).builds, id.to_owned(), pick);
        }
        let build = self.send(&self.of_build(OfBuild::Get, id)).await.json();
        let image = build["image"].as_str().expect("an image").to_owned();
        let (_, name) = image.split_once('/').unwrap();
        if name.split_once(':').unwrap().1.starts_with(HOLD) {
            let end = if build["state"] == "cancelled" { End::Cancelled } else { End::Held };
            self.builds.insert(id.to_owned(), end);
            return;
        }
        let build = self.ended(id).await;
        self.is_own(&build, End::Succeeded);
        self.builds.insert(id.to_owned(), End::Succeeded);
        // That of an earlier one may be gone since.
        if new {
            self.has(name, build["digest"].as_str().expect("a digest"), pick);
        }
    }

    /// What is to be built: a new file, one of before, or the file of another. What is held nobody else asks for,
    /// so that no image answers for it.
    fn file(&mut self, target: &str, theirs: bool, [whose, which, kind]: [u32; 3]) -> String {
        if target.contains(HOLD) {
            return self.new_file();
        }
        let of = if theirs { self.another(whose) } else { self.me };
        let known = one(&self.world.heard(of).files, which);
        if let Some(known) = known.filter(|_| theirs || kind.is_multiple_of(4)) {
            return known;
        }
        let file = self.new_file();
        hear(&mut self.world.heard(self.me).files, file.clone(), which);
        file
    }

    fn new_file(&mut self) -> String {
        self.count += 1;
        BASE64_STANDARD.encode(format!("{} {}", self.tenant().mark, self.count))
    }

    /// One of one's own names for an image.
    fn target(&self, [repository, tag, kind]: [u32; 3]) -> String {
        let repository = self.tenant().repository(REPOSITORIES[repository as usize % REPOSITORIES.len()]);
        let word = if !self.holds() && kind.is_multiple_of(8) { HOLD } else { "t" };
        format!("{repository}:{word}-{}-{}", self.tenant().mark, tag % TAGS)
    }

    /// A name of another's.
    fn their_target(&self, [whose, which, _]: [u32; 3]) -> String {
        let other = self.another(whose);
        let known = one(&self.world.heard(other).images, which).filter(|name| !name.contains('@'));
        known.unwrap_or_else(|| format!("{}/app:t", self.world.tenants[other].name))
    }

    async fn create(&mut self, theirs: bool, picks: [u32; 3]) {
        let target = self.target(picks);
        let file = self.file(&target, theirs, picks);
        let of = |target: &str| json!({ "source": base("busybox"), "target": target, "kind": "python", "file": file });
        if theirs && picks[2].is_multiple_of(2) {
            let create = |target: &str| self.api("POST", BUILDS).json(&of(target));
            return self.nothing(create, &self.their_target(picks), NO_IMAGE).await;
        }
        let mut asked = self.api("POST", BUILDS).json(&of(&target));
        // A key of another's is as good as a new one.
        if picks[2].is_multiple_of(3) {
            let known = one(&self.world.heard(self.another(picks[0])).keys, picks[1]);
            let key = known.unwrap_or_else(|| format!("{}-{}", self.tenant().name, self.count));
            hear(&mut self.world.heard(self.me).keys, key.clone(), picks[1]);
            asked = asked.with("idempotency-key", key);
        }
        let answer = self.send(&asked).await;
        match answer.status {
            // The key was for something else of one's own.
            422 => {}
            200 | 202 => self.adopt(answer.json()["id"].as_str().unwrap(), picks[0]).await,
            _ => panic!("{asked:?}: {answer:?}"),
        }
    }

    async fn start(&mut self, theirs: bool, picks: [u32; 3]) {
        // This door has no paths below a user.
        let target = self.target([0, picks[1], picks[2]]);
        let file = self.file(&target, theirs, picks);
        let of = |target: &str| json!({ "source": base("busybox"), "target": target, "kind": "python", "file": file });
        let start = |target: &str| self.api("POST", format!("{DOOR}/start")).json(&of(target));
        if theirs {
            return self.nothing(start, &self.their_target(picks), NO_IMAGE).await;
        }
        let asked = start(&target);
        let answer = self.send(&asked).await;
        assert_eq!(answer.status, 200, "{asked:?}: {answer:?}");
        self.adopt(answer.json()["id"].as_str().unwrap(), picks[0]).await;
    }

    /// Like [`Self::start`], of an archive that this tenant signed.
    async fn archive(&mut self, theirs: bool, picks: [u32; 3]) {
        let post = |key_id: &str, target: &str| {
            let body = packed(target);
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, self.tenant().key.as_bytes()), &body);
            let tag: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            let asked = Asking::of("POST", "/build").with("x-kiln-key-id", key_id);
            asked.with("x-build-signature", format!("sha256={tag}")).body("application/octet-stream", body)
        };
        let own = &self.tenant().name;
        if theirs {
            let target = self.their_target(picks);
            self.nothing(|target| post(own, target), &target, NO_IMAGE).await;
            let other = &self.world.tenants[self.another(picks[0])].name;
            return self.nothing(|tenant| post(tenant, &target), other, "nobody").await;
        }
        // Its caller waits.
        let target = self.target([picks[0], picks[1], 1]);
        let asked = post(own, &target);
        let answer = self.send(&asked).await;
        assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("success")), "{asked:?}: {answer:?}");
        self.adopt_newest(picks[0]).await;
    }

    async fn adopt_newest(&mut self, pick: u32) {
        let newest = self.send(&self.api("GET", format!("{BUILDS}?limit=1"))).await.json();
        self.adopt(newest["builds"][0]["id"].as_str().expect("a build"), pick).await;
    }

    async fn ensure(&mut self, picks: [u32; 3]) {
        let file = self.file("", false, picks);
        let asked = self.api("POST", format!("{DOOR}/ensure")).json(&json!({ "builder": BUILDER, "file": file }));
        let answer = self.send(&asked).await;
        assert!(matches!(answer.status, 200 | 202), "{asked:?}: {answer:?}");
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        hear(&mut self.world.heard(self.me).contents, id.clone(), picks[0]);
        hear(&mut self.ensured, id, picks[0]);
        self.adopt_newest(picks[1]).await;
    }

    async fn ensured(&mut self, theirs: bool, [whose, which, _]: [u32; 3]) {
        let get = |id: &str| self.api("GET", format!("{DOOR}/{id}"));
        if theirs {
            let theirs = one(&self.world.heard(self.another(whose)).contents, which);
            if let Some(theirs) = theirs {
                self.nothing(get, &theirs, &"0".repeat(64)).await;
            }
        } else if let Some(id) = one(&self.ensured, which) {
            // It is gone after a cleanup.
            let answer = self.send(&get(&id)).await;
            assert!(matches!(answer.status, 200 | 202 | 404), "{id}: {answer:?}");
        }
    }

    async fn cleanup(&mut self) {
        // Those that go on would keep later ones of the same name.
        let held: Vec<_> = self.builds.iter().filter(|(_, end)| **end == End::Held).map(|(id, _)| id.clone()).collect();
        for id in held {
            assert_eq!(self.send(&self.of_build(OfBuild::Cancel, &id)).await.status, 202);
            self.cancelled(&id).await;
        }
        let asked = self.api("POST", format!("{DOOR}/cleanup")).json(&json!({ "max_age_hours": -1 }));
        assert_eq!(self.send(&asked).await.status, 200);
        self.builds.clear();
    }

    async fn list(&mut self, theirs: bool, [whose, which, limit]: [u32; 3]) {
        if theirs && limit.is_multiple_of(2) {
            let of = |owner: &str| self.api("GET", format!("{BUILDS}?owner={owner}"));
            return self.nothing(of, &self.world.tenants[self.another(whose)].name, "nobody").await;
        }
        let at = |cursor: &str| self.api("GET", format!("{BUILDS}?limit=5&cursor={cursor}"));
        if theirs {
            let cursor = one(&self.world.heard(self.another(whose)).cursors, which);
            if let Some(cursor) = cursor {
                self.nothing(at, &cursor, "nothing").await;
            }
            return;
        }
        let known = one(&self.world.heard(self.me).cursors, which).filter(|_| limit.is_multiple_of(2));
        let asked = known.map_or_else(|| self.api("GET", format!("{BUILDS}?limit=5")), |cursor| at(&cursor));
        let page = self.send(&asked).await.json();
        for build in page["builds"].as_array().expect("a list") {
            self.is_own(build, self.builds[build["id"].as_str().unwrap()]);
        }
        if let Some(next) = page["next"].as_str() {
            hear(&mut self.world.heard(self.me).cursors, next.to_owned(), which);
        }
    }

    async fn page_list(&mut self, theirs: bool, [whose, which, _]: [u32; 3]) {
        if theirs {
            let cursor = one(&self.world.heard(self.another(whose)).cursors, which);
            if let Some(cursor) = cursor {
                self.nothing(|cursor| self.page(format!("/?cursor={cursor}")), &cursor, "nothing").await;
            }
            return;
        }
        let answer = self.send(&self.page("/")).await;
        assert_eq!(answer.status, 200);
        let of = answer.text.split("href=\"/builds/").skip(1);
        for id in of.map(|rest| &rest[..NO_BUILD.len()]) {
            assert!(self.builds.contains_key(id), "{id} isn't {}'s", self.tenant().name);
        }
    }

    // === Images ===

    /// An image is this tenant's from now on.
    fn has(&mut self, name: &str, digest: &str, pick: u32) {
        let (repository, _) = name.split_once(':').unwrap();
        self.images.insert(name.to_owned(), digest.to_owned());
        let known = if pick.is_multiple_of(3) { format!("{repository}@{digest}") } else { name.to_owned() };
        hear(&mut self.world.heard(self.me).images, known, pick);
    }

    fn own_image(&self, pick: u32) -> Option<(String, String)> {
        let (name, digest) = self.images.iter().nth(pick as usize % self.images.len().max(1))?;
        Some((name.clone(), digest.clone()))
    }

    fn their_image(&self, whose: u32, which: u32) -> Option<String> {
        let other = self.another(whose);
        let repository = self.world.tenants[other].repository(REPOSITORIES[which as usize % REPOSITORIES.len()]);
        let known = one(&self.world.heard(other).images, which);
        if which.is_multiple_of(5) { Some(repository) } else { known }
    }

    async fn finds(&self, name: &str, digest: &str) {
        let answer = self.send(&self.api("GET", format!("{IMAGES}/{name}"))).await;
        assert_eq!((answer.status, answer.json()["digest"].as_str()), (200, Some(digest)), "{name}: {answer:?}");
    }

    async fn catalogues(&mut self, list: &str, theirs: bool, [whose, which, _]: [u32; 3]) {
        let ask = |path: String| if list == IMAGES { self.api("GET", path) } else { self.page(path) };
        if theirs {
            let other = &self.world.tenants[self.another(whose)];
            let repository = other.repository(REPOSITORIES[which as usize % REPOSITORIES.len()]);
            let at = |place: &str| ask(format!("{list}?cursor={place}"));
            return self.nothing(at, &repository, "nobody/app").await;
        }
        let answer = self.send(&ask(list.to_owned())).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let own: BTreeSet<_> = REPOSITORIES.iter().map(|below| self.tenant().repository(below)).collect();
        for name in answer.json()["catalogs"].as_array().into_iter().flatten() {
            assert!(own.contains(name.as_str().unwrap()), "{name}");
        }
        for name in answer.text.split("href=\"/images/").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(own.contains(name), "{name}");
        }
    }

    async fn look(&mut self, theirs: bool, [whose, which, kind]: [u32; 3]) {
        let get = |name: &str| self.api("GET", format!("{IMAGES}/{name}"));
        if theirs {
            if let Some(theirs) = self.their_image(whose, which) {
                self.nothing(get, &theirs, NO_IMAGE).await;
            }
        } else if kind.is_multiple_of(6) {
            let repository = self.tenant().repository(REPOSITORIES[which as usize % REPOSITORIES.len()]);
            let answer = self.send(&self.api("GET", format!("{IMAGES}/{repository}?limit=3"))).await;
            for image in answer.json()["images"].as_array().into_iter().flatten() {
                let name = format!("{repository}:{}", image["tag"].as_str().unwrap());
                assert_eq!(self.images.get(&name).map(String::as_str), image["digest"].as_str(), "{name}");
            }
        } else if let Some((name, digest)) = self.own_image(which) {
            self.finds(&name, &digest).await;
        }
    }

    async fn page_look(&mut self, theirs: bool, [whose, which, _]: [u32; 3]) {
        let get = |name: &str| self.page(format!("/images/{name}"));
        if theirs {
            if let Some(theirs) = self.their_image(whose, which) {
                self.nothing(get, &theirs, NO_IMAGE).await;
            }
        } else if let Some((name, digest)) = self.own_image(which) {
            let answer = self.send(&get(&name)).await;
            assert!(answer.status == 200 && answer.text.contains(&digest), "{name}: {answer:?}");
        }
    }

    async fn delete(&mut self, theirs: bool, [whose, which, _]: [u32; 3]) {
        let delete = |name: &str| self.api("DELETE", format!("{IMAGES}/{name}?all_tags=true"));
        if theirs {
            if let Some(theirs) = self.their_image(whose, which) {
                self.nothing(delete, &theirs, NO_IMAGE).await;
            }
        } else if let Some((name, digest)) = self.own_image(which) {
            let answer = self.send(&delete(&name)).await;
            assert_eq!(answer.status, 200, "{name}: {answer:?}");
            self.gone(&name, &digest);
        }
    }

    async fn page_delete(&mut self, theirs: bool, [whose, which, _]: [u32; 3]) {
        let delete = |name: &str| self.form(format!("/images/{name}"), "all_tags=true");
        if theirs {
            if let Some(theirs) = self.their_image(whose, which) {
                self.nothing(delete, &theirs, NO_IMAGE).await;
            }
        } else if let Some((name, digest)) = self.own_image(which) {
            let answer = self.send(&delete(&name)).await;
            assert_eq!(answer.status, 303, "{name}: {answer:?}");
            self.gone(&name, &digest);
        }
    }

    /// An image went, with all its tags in this repository.
    fn gone(&mut self, name: &str, digest: &str) {
        let (repository, _) = name.split_once(':').unwrap();
        self.images.retain(|other, of| of != digest || other.split_once(':').unwrap().0 != repository);
    }

    async fn copy(&mut self, theirs: bool, [whose, which, kind]: [u32; 3]) {
        let copy = |from: &str, to: &str| self.api("POST", IMAGES).json(&json!({ "from": from, "to": to }));
        let Some((own, digest)) = self.own_image(which) else { return };
        let to = self.target([whose, kind, 1]);
        if theirs && kind.is_multiple_of(2) {
            let to_them = self.their_target([whose, which, kind]);
            self.nothing(|to| copy(&own, to), &to_them, NO_IMAGE).await;
        } else if theirs {
            if let Some(theirs) = self.their_image(whose, which).filter(|name| name.contains([':', '@'])) {
                self.nothing(|from| copy(from, &to), &theirs, NO_IMAGE).await;
            }
        } else {
            let answer = self.send(&copy(&own, &to)).await;
            assert_eq!((answer.status, answer.json()["digest"].as_str()), (201, Some(&*digest)), "{own}: {answer:?}");
            self.has(&to, &digest, kind);
        }
    }

    async fn whoami(&self) {
        let answer = self.send(&self.api("GET", "/v1/whoami")).await;
        assert_eq!((answer.status, &answer.json()["user"]), (200, &json!(self.tenant().name)), "{answer:?}");
    }
}

/// An archive as OpenFaaS's clients make it.
fn packed(target: &str) -> Vec<u8> {
    let config = json!({ "image": format!("{}/{target}", engine("KILN_TEST_REGISTRY")) }).to_string();
    let mut archive = tar::Builder::new(Vec::new());
    for (path, text) in [("com.openfaas.docker.config", &*config), ("context/Dockerfile", "FROM scratch\n")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap()
}
