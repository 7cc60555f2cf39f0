//! Tenants whose names begin alike, at every endpoint at once and by chance: whatever they ask for, each sees,
//! changes and deletes their own, and nobody else's. The gateway is whole and its registry a real one; its
//! engine pushes an image at once.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test panics where it fails")]

mod asking;
mod gateway;
mod moves;
mod player;
mod world;

use std::{env, sync::Arc, time::Duration};

use futures_util::future::join_all;
use proptest::{
    strategy::{Strategy as _, ValueTree as _},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::Value;
use tokio::{sync::oneshot, time::timeout};
use uuid::Uuid;

use asking::Asking;
use gateway::Opened;
use moves::OPERATIONS;
use player::Player;
use world::World;

/// Each begins as another does, or as another's repositories do.
const NAMES: [&str; 4] = ["dev", "devel", "devel-2", "dev1"];
/// Of all tenants together.
const MOVES: usize = 100_000;
/// For all of them; it only ends what hangs.
const PATIENCE: Duration = Duration::from_secs(480);
/// Has the chances of an earlier run again.
const SEED: &str = "KILN_TEST_SEED";

#[tokio::test(flavor = "multi_thread")]
async fn whatever_tenants_do_they_see_change_and_delete_their_own_alone() {
    let seed = env::var(SEED).map_or_else(|_| Uuid::new_v4(), |seed| seed.parse().expect("a UUID"));
    println!("{SEED}={seed}");
    let (stop, stopped) = oneshot::channel();
    let Opened { router, tenants, running, _folder } = gateway::open(&NAMES, stopped).await;
    let world = Arc::new(World::of(router, tenants));
    let players = (0..NAMES.len()).map(|me| tokio::spawn(play(Arc::clone(&world), me, seed)));
    for player in timeout(PATIENCE, join_all(players)).await.expect("all are done in time") {
        player.expect("nothing of another's was seen, and nothing of one's own changed by others");
    }
    stop.send(()).expect("the gateway still runs");
    running.await.unwrap().unwrap();
}

async fn play(world: Arc<World>, me: usize, seed: Uuid) {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(seed.as_bytes());
    bytes[16] = u8::try_from(me).unwrap();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut chance = TestRunner::new_with_rng(Config::default(), rng);
    let mut player = Player::of(world, me).await;
    for _ in 0..MOVES / NAMES.len() {
        let next = moves::any().new_tree(&mut chance).unwrap().current();
        player.play(next).await;
    }
    player.find_all().await;
}

#[tokio::test]
async fn every_operation_of_the_document_is_among_the_moves() {
    let (stop, stopped) = oneshot::channel();
    let Opened { router, tenants, running, _folder } = gateway::open(&NAMES[..1], stopped).await;
    let world = World::of(router, tenants);
    let document: Value = world.send(&Asking::of("GET", "/openapi.json")).await.json();
    let paths = document["paths"].as_object().unwrap().values();
    let mut described: Vec<_> = paths
        .flat_map(|path| path.as_object().unwrap().values())
        .filter_map(|operation| operation["operationId"].as_str())
        .collect();
    let mut known: Vec<_> = OPERATIONS.iter().map(|(name, _)| *name).collect();
    described.sort_unstable();
    known.sort_unstable();
    assert_eq!(described, known);
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}
