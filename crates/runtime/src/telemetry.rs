//! Logs and traces. The only file that names the OpenTelemetry crates.
//!
//! Every log line has the fields `timestamp` (RFC 3339, UTC), `level`, `target` (module) and `message`; further fields
//! are flat beside them, with lengths of time in `_ms` and sizes in `_bytes`.

use std::io::Write;
use std::str::FromStr;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer};

use crate::exit::Fatal;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("unknown log format \"{other}\": use text or json")),
        }
    }
}

/// What is told, how and to whom.
#[derive(Clone, Debug)]
pub struct Options {
    /// Program, `kuma-global`: the `service.name` of traces.
    pub service: &'static str,
    /// This run of the program: the `service.instance.id` of traces.
    pub instance: String,
    /// `off`, `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,discovery=debug`.
    pub level: String,
    /// How log lines look.
    pub format: Format,
    /// Collector for traces over gRPC, `host:4317` or a URL; none without (`tracing.openTelemetry.endpoint`).
    pub traces: Option<String>,
}

/// Logs and traces of the running program.
#[derive(Debug)]
pub struct Telemetry(Option<SdkTracerProvider>);

impl Telemetry {
    /// Installs logs on stderr and the exporter of traces for the whole process. Needs a tokio runtime for traces.
    ///
    /// # Errors
    /// The level or the endpoint cannot be understood, or logs were installed before.
    pub fn install(options: &Options) -> Result<Self, Fatal> {
        let traces = options.traces.as_deref().map(|endpoint| exporter(endpoint, options)).transpose()?;
        let subscriber = subscriber(options, traces.as_ref(), std::io::stderr)?;
        tracing::subscriber::set_global_default(subscriber)
            .map_err(|error| Fatal::new("cannot install the log").caused_by(error))?;
        Ok(Self(traces))
    }

    /// Sends what is still waiting. Call it last.
    pub async fn flush(self) {
        let Some(provider) = self.0 else { return };
        // The exporter's shutdown blocks its thread until the collector has answered.
        let ended = tokio::task::spawn_blocking(move || provider.shutdown()).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::warn!("the last traces could not be sent");
        }
    }
}

fn subscriber<W>(
    options: &Options,
    traces: Option<&SdkTracerProvider>,
    writer: W,
) -> Result<impl Subscriber + use<W>, Fatal>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = filter(&options.level).map_err(|error| {
        Fatal::new(format!("cannot understand the log level \"{}\"", options.level))
            .caused_by(error)
            .remedy("use off, error, warn, info, debug or trace")
    })?;
    let traces = traces.map(|provider| {
        let own = tracing_subscriber::filter::filter_fn(|meta| !is_of_a_library(meta.target()));
        tracing_opentelemetry::layer().with_tracer(provider.tracer(options.service)).with_filter(own)
    });
    Ok(tracing_subscriber::registry().with(lines(options.format, writer).with_filter(filter)).with(traces))
}

/// Whether something is told by the exporter, which traced would never end, or by what carries messages.
fn is_of_a_library(target: &str) -> bool {
    let library = target.split("::").next().unwrap_or_default();
    ["h2", "hyper", "hyper_util", "opentelemetry", "rustls", "sqlx", "tokio_util", "tonic", "tower"]
        .iter()
        .any(|prefix| library == *prefix || (*prefix == "opentelemetry" && library.starts_with(prefix)))
}

fn filter(level: &str) -> Result<EnvFilter, Box<dyn std::error::Error + Send + Sync>> {
    if !level.contains('=') {
        // A filter takes a bare word for the name of a module and then logs nothing.
        level.split(',').try_for_each(|word| word.trim().parse::<LevelFilter>().map(drop))?;
    }
    Ok(EnvFilter::builder().parse(level)?)
}

fn lines<S, W>(format: Format, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    match format {
        Format::Text => Box::new(layer.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))),
        Format::Json => Box::new(layer.json().flatten_event(true).with_current_span(false)),
    }
}

fn exporter(endpoint: &str, options: &Options) -> Result<SdkTracerProvider, Fatal> {
    let url = if endpoint.contains("://") { endpoint.to_owned() } else { format!("http://{endpoint}") };
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(url).build().map_err(|error| {
        Fatal::new(format!("cannot send traces to \"{endpoint}\""))
            .caused_by(error)
            .remedy("set tracing.openTelemetry.endpoint to host:port")
    })?;
    let resource = Resource::builder()
        .with_service_name(options.service)
        .with_attribute(KeyValue::new("service.instance.id", options.instance.clone()))
        .build();
    Ok(SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build())
}

/// Writes a line on stderr whatever the log level: for warnings about the configuration, which come before the log.
pub fn tell(line: &str) {
    // Without stderr there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::body::Bytes;
    use axum::routing::post;

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn options(level: &str, format: Format) -> Options {
        Options { service: "test", instance: "i-1".into(), level: level.into(), format, traces: None }
    }

    fn logged(options: &Options, log: impl FnOnce()) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        tracing::subscriber::with_default(subscriber(options, None, move || writer.clone()).unwrap(), log);
        String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_json_line_has_its_fixed_fields_flat() {
        let line = logged(&options("info", Format::Json), || tracing::info!(zone = "east", took_ms = 3, "synced"));
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json["message"], "synced");
        assert_eq!(json["level"], "INFO");
        assert_eq!(json["zone"], "east");
        assert_eq!(json["took_ms"], 3);
        assert_eq!(json["target"], "runtime::telemetry::tests");
        chrono::DateTime::parse_from_rfc3339(json["timestamp"].as_str().unwrap()).unwrap();
    }

    #[test]
    fn levels_filter_and_a_wrong_one_is_refused() {
        assert_eq!(logged(&options("off", Format::Text), || tracing::error!("x")), "");
        assert_eq!(logged(&options("info,runtime=warn", Format::Text), || tracing::info!("x")), "");
        let error = subscriber(&options("a=b=c", Format::Text), None, std::io::stderr).err().unwrap().to_string();
        assert!(error.starts_with("cannot understand the log level \"a=b=c\""), "{error}");
        assert!(subscriber(&options("loud", Format::Text), None, std::io::stderr).is_err());
        assert_eq!("xml".parse::<Format>(), Err("unknown log format \"xml\": use text or json".to_owned()));
    }

    /// Spans reach a collector that speaks OTLP over gRPC.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn spans_are_exported() {
        let (sent, mut received) = tokio::sync::mpsc::channel::<Bytes>(8);
        let export = move |body: Bytes| async move {
            sent.send(body).await.unwrap();
            [("content-type", "application/grpc"), ("grpc-status", "0")]
        };
        let routes = Router::new().route("/opentelemetry.proto.collector.trace.v1.TraceService/Export", post(export));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });

        let options = Options { traces: Some(endpoint.clone()), ..options("off", Format::Text) };
        let provider = exporter(&endpoint, &options).unwrap();
        let subscriber = subscriber(&options, Some(&provider), std::io::stderr).unwrap();
        tracing::subscriber::with_default(subscriber, || tracing::info_span!("reconcile-zone").in_scope(|| ()));
        Telemetry(Some(provider)).flush().await;

        let body = received.recv().await.unwrap();
        let has = |text: &str| body.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(has("reconcile-zone") && has("service.instance.id") && has("i-1"));
    }
}
