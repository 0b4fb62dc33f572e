//! Several instances of a global on one database.

use std::path::Path;

use http::StatusCode;
use kds_proto::kuma::mesh::v1alpha1::{
    ClustersRequest, ClustersResponse, StatsRequest, StatsResponse, XdsConfigRequest, XdsConfigResponse,
    clusters_response, stats_response, xds_config_response,
};
use kuma_global::Running;
use runtime::Exit;
use serde_json::json;
use store::test_support::TestPostgres;

use crate::client::{Caller, eventually};
use crate::world::{ADMIN, Call, Dialled, OPEN, World, run};
use crate::zone::{FakeZone, dataplane};

/// Answers the questions of one zone's streams, in the words of the recording.
pub struct Answering(Vec<tokio::task::JoinHandle<()>>);

impl Answering {
    pub async fn start(zone: &Dialled) -> Self {
        let mut dumps: Call<XdsConfigResponse, XdsConfigRequest> =
            zone.call(&format!("{ADMIN}/StreamXDSConfigs")).await.unwrap();
        let mut stats: Call<StatsResponse, StatsRequest> = zone.call(&format!("{ADMIN}/StreamStats")).await.unwrap();
        let mut clusters: Call<ClustersResponse, ClustersRequest> =
            zone.call(&format!("{ADMIN}/StreamClusters")).await.unwrap();
        let dumps = tokio::spawn(async move {
            while let Some(Ok(asked)) = futures::StreamExt::next(&mut dumps.responses).await {
                let XdsConfigRequest { request_id, resource_type, resource_name, resource_mesh, include_eds } = asked;
                let text = json!({"of": [resource_type, resource_mesh, resource_name], "eds": include_eds}).to_string();
                let result = Some(xds_config_response::Result::Config(text.into_bytes().into()));
                dumps.requests.send(XdsConfigResponse { request_id, result }).await.unwrap();
            }
        });
        let stats = tokio::spawn(async move {
            while let Some(Ok(asked)) = futures::StreamExt::next(&mut stats.responses).await {
                let text = format!("{} format {} used {}", asked.resource_name, asked.format, asked.used_only);
                let result = Some(stats_response::Result::Stats(text.into_bytes().into()));
                stats.requests.send(StatsResponse { request_id: asked.request_id, result }).await.unwrap();
            }
        });
        let clusters = tokio::spawn(async move {
            while let Some(Ok(asked)) = futures::StreamExt::next(&mut clusters.responses).await {
                let error = "unable to send GET to config_dump: connection refused".to_owned();
                let result = Some(clusters_response::Result::Error(error));
                clusters.requests.send(ClustersResponse { request_id: asked.request_id, result }).await.unwrap();
            }
        });
        Self(vec![dumps, stats, clusters])
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

async fn all_streams_are_on_record(api: &Caller, zone: &str) {
    eventually("the streams are on record", || async {
        let streams = api.get(&format!("/zone-insights/{zone}")).await.1["kdsStreams"].clone();
        ["configDump", "stats", "clusters"].iter().all(|stream| streams[*stream].is_object())
    })
    .await;
}

/// What all three questions come to through one face of the global.
async fn questions_are_answered(api: &Caller, proxy: &str) {
    let base = format!("/meshes/default/dataplanes/{proxy}");
    let (status, dump) = api.get(&format!("{base}/xds?include_eds=true")).await;
    assert_eq!((status, dump), (StatusCode::OK, json!({"of": ["Dataplane", "default", "web-1"], "eds": true})));
    let (_, stats) = api.get(&format!("{base}/stats?format=json&usedonly=false")).await;
    assert_eq!(stats, "web-1 format 1 used false");
    let (status, failed) = api.get(&format!("{base}/clusters")).await;
    assert_eq!((status, &failed["title"]), (StatusCode::BAD_REQUEST, &json!("Could not execute admin operation")));
    let detail = "could not send ClustersRequest: unable to send GET to config_dump: connection refused";
    assert_eq!(failed["detail"], detail);
}

/// kds-wire 1.9, 5.8: a question reaches the zone under the name that the proxy has there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_goes_to_the_zone_of_the_proxy() {
    let world = World::start(OPEN).await;
    let api = world.api();
    let mut east = FakeZone::connect(&world, "east").await;
    east.settle().await;
    east.tell(&[dataplane("web-1", "10.0.0.7")]).await;
    let (_, list) = api.get("/meshes/default/dataplanes").await;
    let proxy = list["items"][0]["name"].as_str().unwrap().to_owned();
    let xds = format!("/meshes/default/dataplanes/{proxy}/xds");
    let online = || async { api.get("/zone-insights/east").await.0 == StatusCode::OK };
    eventually("the zone is on record", online).await;
    let (status, problem) = api.get(&xds).await;
    assert_eq!((status, &problem["title"]), (StatusCode::BAD_REQUEST, &json!("Bad Request")));
    assert_eq!(problem["detail"], "stream to execute XDS Config Dump operations is not yet connected");

    let answering = Answering::start(&east.caller).await;
    all_streams_are_on_record(&api, "east").await;
    questions_are_answered(&api, &proxy).await;
    drop((answering, east));
    eventually("the zone is offline", || async {
        api.get(&xds).await.1["detail"] == "couldn't execute XDS Config Dump operation, zone is offline"
    })
    .await;
    world.end().await;
}

async fn end(running: Running) {
    running.stop().ask();
    assert_eq!(running.end().await, Exit::Clean);
}

/// Any instance takes any zone: what is written through one reaches the zones of the other, a question finds its way, and
/// when an instance is gone the leader ends what it left open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_share_the_zones() {
    let server = TestPostgres::shared().unwrap_or_else(|error| panic!("{error}"));
    let database = server.database().await.unwrap();
    let settings = store::Settings::new(store::Backend::Postgres(database.clone()));
    store::migrate(&settings).await.unwrap();
    let sets: Vec<String> = [
        "store.type=postgres".to_owned(),
        format!("store.postgres.port={}", database.port),
        format!("store.postgres.dbName={}", database.db_name),
        "interCp.catalog.heartbeatInterval=100ms".to_owned(),
        "interCp.catalog.writerInterval=1s".to_owned(),
        "interCp.catalog.instanceAddress=127.0.0.1".to_owned(),
    ]
    .into_iter()
    .chain(OPEN.iter().map(|set| (*set).to_owned()))
    .collect();
    let folder = tempfile::tempdir().unwrap();
    let start = || async { run(folder.path() as &Path, &sets).await };
    let (one, two) = (start().await, start().await);
    let (first, second) = (Caller::http(one.api.http), Caller::http(two.api.http));

    let mut west = FakeZone::at(one.kds.port(), "west").await;
    let mut east = FakeZone::at(two.kds.port(), "east").await;
    east.settle().await;
    west.settle().await;
    first.put("/meshes/fresh", &json!({"type": "Mesh", "name": "fresh"})).await;
    east.until("the zone of the other instance is told", |held| held.has("Mesh", "fresh")).await;
    east.tell(&[dataplane("web-1", "10.0.0.7"), crate::zone::service("web")]).await;
    west.until("a service crosses instances", |held| held.shows("MeshService", "web")).await;

    let _answering = Answering::start(&east.caller).await;
    let listed = || async { first.get("/meshes/default/dataplanes").await.1["total"] == 1 };
    eventually("the first instance has the proxy", listed).await;
    let (_, list) = first.get("/meshes/default/dataplanes").await;
    let proxy = list["items"][0]["name"].as_str().unwrap().to_owned();
    let xds = format!("/meshes/default/dataplanes/{proxy}/xds");
    for api in [&second, &first] {
        all_streams_are_on_record(api, "east").await;
        eventually("the question finds its way", || async { api.get(&xds).await.0 == StatusCode::OK }).await;
        questions_are_answered(api, &proxy).await;
    }

    let online = |insight: &serde_json::Value| {
        let subscriptions = insight["subscriptions"].as_array().cloned().unwrap_or_default();
        subscriptions.iter().any(|subscription| subscription.get("disconnectTime").is_none())
    };
    assert!(online(&first.get("/zone-insights/east").await.1));
    // As if it were killed: it writes nothing any more.
    drop(two);
    eventually("what the dead instance left open is ended", || async {
        !online(&first.get("/zone-insights/east").await.1) && online(&first.get("/zone-insights/west").await.1)
    })
    .await;
    drop((east, west));
    end(one).await;
}
