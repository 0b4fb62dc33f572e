//! The three questions as messages.

use api::proxy_admin::{Format, Question};
use bytes::Bytes;
use kds_proto::kuma::mesh::v1alpha1::{
    AdminOutputFormat, ClustersRequest, ClustersResponse, StatsRequest, StatsResponse, XdsConfigRequest,
    XdsConfigResponse, clusters_response, stats_response, xds_config_response,
};
use model::Key;

use crate::insights::StreamKind;

/// A question and its answer on the wire.
pub(crate) trait Exchange: std::fmt::Debug + Send + Sync + 'static {
    /// What goes to the zone.
    type Request: std::fmt::Debug + Send + 'static;
    /// What comes back.
    type Response: Send + 'static;
    /// The stream that they travel on.
    const KIND: StreamKind;
    /// The operation as messages about zones call it.
    const OPERATION: &'static str;
    /// The request as messages about it call it.
    const REQUEST: &'static str;

    /// The request for a proxy; `name` is the one inside its zone.
    fn request(id: String, proxy: &Key, name: &str, question: Question) -> Self::Request;

    /// Identifier and content of a response; an empty success has no content.
    fn read(response: Self::Response) -> (String, Result<Bytes, String>);
}

/// Configuration of a proxy.
#[derive(Debug)]
pub(crate) struct ConfigDump;
/// Statistics of a proxy.
#[derive(Debug)]
pub(crate) struct Stats;
/// Clusters of a proxy.
#[derive(Debug)]
pub(crate) struct Clusters;

impl Exchange for ConfigDump {
    type Request = XdsConfigRequest;
    type Response = XdsConfigResponse;
    const KIND: StreamKind = StreamKind::ConfigDump;
    const OPERATION: &'static str = "XDS Config Dump";
    const REQUEST: &'static str = "XDSConfigRequest";

    fn request(id: String, proxy: &Key, name: &str, question: Question) -> XdsConfigRequest {
        XdsConfigRequest {
            request_id: id,
            resource_type: proxy.kind.name().to_owned(),
            resource_name: name.to_owned(),
            resource_mesh: proxy.mesh.to_string(),
            include_eds: question == Question::ConfigDump { endpoints: true },
        }
    }

    fn read(response: XdsConfigResponse) -> (String, Result<Bytes, String>) {
        let result = match response.result {
            Some(xds_config_response::Result::Error(error)) => Err(error),
            Some(xds_config_response::Result::Config(config)) => Ok(config),
            None => Ok(Bytes::new()),
        };
        (response.request_id, result)
    }
}

impl Exchange for Stats {
    type Request = StatsRequest;
    type Response = StatsResponse;
    const KIND: StreamKind = StreamKind::Stats;
    const OPERATION: &'static str = "Stats";
    const REQUEST: &'static str = "StatsRequest";

    fn request(id: String, proxy: &Key, name: &str, question: Question) -> StatsRequest {
        StatsRequest {
            request_id: id,
            resource_type: proxy.kind.name().to_owned(),
            resource_name: name.to_owned(),
            resource_mesh: proxy.mesh.to_string(),
            format: format_of(question).into(),
            used_only: matches!(question, Question::Stats { used_only: true, .. }),
        }
    }

    fn read(response: StatsResponse) -> (String, Result<Bytes, String>) {
        let result = match response.result {
            Some(stats_response::Result::Error(error)) => Err(error),
            Some(stats_response::Result::Stats(stats)) => Ok(stats),
            None => Ok(Bytes::new()),
        };
        (response.request_id, result)
    }
}

impl Exchange for Clusters {
    type Request = ClustersRequest;
    type Response = ClustersResponse;
    const KIND: StreamKind = StreamKind::Clusters;
    const OPERATION: &'static str = "Clusters";
    const REQUEST: &'static str = "ClustersRequest";

    fn request(id: String, proxy: &Key, name: &str, question: Question) -> ClustersRequest {
        ClustersRequest {
            request_id: id,
            resource_type: proxy.kind.name().to_owned(),
            resource_name: name.to_owned(),
            resource_mesh: proxy.mesh.to_string(),
            format: format_of(question).into(),
        }
    }

    fn read(response: ClustersResponse) -> (String, Result<Bytes, String>) {
        let result = match response.result {
            Some(clusters_response::Result::Error(error)) => Err(error),
            Some(clusters_response::Result::Clusters(clusters)) => Ok(clusters),
            None => Ok(Bytes::new()),
        };
        (response.request_id, result)
    }
}

fn format_of(question: Question) -> AdminOutputFormat {
    match question {
        Question::Stats { format: Format::Json, .. } | Question::Clusters { format: Format::Json } => {
            AdminOutputFormat::Json
        }
        _ => AdminOutputFormat::Text,
    }
}
