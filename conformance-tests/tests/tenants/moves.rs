//! What a tenant may do next.

use proptest::{prelude::Strategy, prop_oneof, strategy::Union};

/// One thing that a tenant does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Move {
    pub(crate) operation: Operation,
    /// Whether it is aimed at what is another's.
    pub(crate) theirs: bool,
    /// What is chosen.
    pub(crate) picks: [u32; 3],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operation {
    CreateBuild,
    ListBuilds,
    OfBuild(OfBuild),
    ListCatalogs,
    GetImages,
    DeleteImage,
    CopyImage,
    Whoami,
    Start,
    Cleanup,
    Capabilities,
    Ensure,
    Ensured,
    PageList,
    PageCatalogues,
    PageImages,
    PageDelete,
    Archive,
}

/// What is asked of one build, by its id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OfBuild {
    Get,
    Wait,
    Cancel,
    Retry,
    Webhook,
    Log,
    Status,
    PageBuild,
    PageLog,
    PageCancel,
    PageRetry,
}

/// The operations of the document of Kiln's own API.
pub(crate) const OPERATIONS: [(&str, Operation); 13] = [
    ("create_build", Operation::CreateBuild),
    ("list_builds", Operation::ListBuilds),
    ("get_build", Operation::OfBuild(OfBuild::Get)),
    ("wait_for_build", Operation::OfBuild(OfBuild::Wait)),
    ("cancel_build", Operation::OfBuild(OfBuild::Cancel)),
    ("retry_build", Operation::OfBuild(OfBuild::Retry)),
    ("get_webhook", Operation::OfBuild(OfBuild::Webhook)),
    ("build_log", Operation::OfBuild(OfBuild::Log)),
    ("list_catalogs", Operation::ListCatalogs),
    ("get_images", Operation::GetImages),
    ("delete_image", Operation::DeleteImage),
    ("copy_image", Operation::CopyImage),
    ("whoami", Operation::Whoami),
];

/// Those of the other doors, and the page.
const OTHERS: [Operation; 16] = [
    Operation::Start,
    Operation::Cleanup,
    Operation::Capabilities,
    Operation::Ensure,
    Operation::Ensured,
    Operation::PageList,
    Operation::PageCatalogues,
    Operation::PageImages,
    Operation::PageDelete,
    Operation::Archive,
    Operation::OfBuild(OfBuild::Status),
    Operation::OfBuild(OfBuild::PageBuild),
    Operation::OfBuild(OfBuild::PageLog),
    Operation::OfBuild(OfBuild::PageCancel),
    Operation::OfBuild(OfBuild::PageRetry),
    Operation::OfBuild(OfBuild::Get),
];

/// Any move: what makes a build is rarer, and a list's end seldom; most are aimed at others.
pub(crate) fn any() -> impl Strategy<Value = Move> {
    let all = OPERATIONS.iter().map(|(_, operation)| *operation).chain(OTHERS);
    let weighted = all.map(|operation| (weight(operation), proptest::strategy::Just(operation)));
    let aimed = prop_oneof![4 => proptest::strategy::Just(true), 1 => proptest::strategy::Just(false)];
    (Union::new_weighted(weighted.collect()), aimed, proptest::prelude::any::<[u32; 3]>())
        .prop_map(|(operation, theirs, picks)| Move { operation, theirs, picks })
}

fn weight(operation: Operation) -> u32 {
    match operation {
        Operation::Cleanup => 1,
        Operation::CreateBuild | Operation::Start | Operation::Archive | Operation::Ensure => 2,
        Operation::ListCatalogs | Operation::PageCatalogues => 5,
        _ => 20,
    }
}
