//! A registry that doesn't take what is pushed.

use kiln_conformance_tests::registry;

use crate::{
    assert_tagged,
    registry_proxy::{Fate, Moment, RegistryProxy},
    start_quick, tag, texts,
};

#[tokio::test]
async fn a_push_is_tried_again_on_the_same_attempt() {
    recovers(Moment::Blob).await;
}

#[tokio::test]
async fn a_tag_is_tried_again_on_the_same_attempt() {
    recovers(Moment::Tag).await;
}

#[tokio::test]
async fn a_registry_that_stays_away_fails_the_push() {
    stays_away(Moment::Blob).await;
}

#[tokio::test]
async fn a_registry_that_stays_away_fails_the_commit() {
    stays_away(Moment::Tag).await;
}

async fn recovers(moment: Moment) {
    let registry = RegistryProxy::start().await;
    registry.rule(moment, Fate::Refused);
    let kiln = registry.launch().start().await;
    let (client, tag) = (kiln.client("devel"), tag());
    let id = start_quick(&client, "devel", &tag).await;
    registry.met(2).await;
    registry.lift();
    let build = client.ended(&id).await;
    assert_tagged(&build, "devel", &tag).await;
    assert_eq!(texts(&client, &id, "attempt").await, ["1"]);
}

async fn stays_away(moment: Moment) {
    let proxy = RegistryProxy::start().await;
    proxy.rule(moment, Fate::Refused);
    let kiln = proxy.launch().start().await;
    let (client, tag) = (kiln.client("devel"), tag());
    let id = start_quick(&client, "devel", &tag).await;
    proxy.met(3).await;
    let build = client.ended(&id).await;
    assert_eq!(build["failure"]["reason"], "RegistryUnavailable", "{build:#}");
    assert_eq!(registry::digest("devel", &tag).await, None);
}
