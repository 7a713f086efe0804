//! `tidegate serve`: builds the objects, connects them, and hands them to Pingora.

use super::takeover::{self, Takeover};
use super::{ConfigArg, ExitStatus, Printer, load_or_tell};
use crate::admin::Admin;
use crate::config::{Config, Server as ServerConfig};
use crate::proxy::app::App;
use crate::proxy::{Gate, Hooks};
use crate::reload::Reloader;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::log;
use clap::Args;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use pingora::apps::http_app::HttpServer;
use pingora::listeners::tls::TlsSettings;
use pingora::proxy::http_proxy;
use pingora::server::configuration::{Opt, ServerConf};
use pingora::server::{ExecutionPhase, RunArgs, Server};
use pingora::services::background::background_service;
use pingora::services::listening::Service;
use pingora::tls::load_certs_and_key_files;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long connections have to write the end of the last responses, which nobody can be asked about.
const LAST_BYTES: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Take the sockets over from a running daemon with the same upgrade socket
    #[arg(long)]
    upgrade: bool,
}

/// Runs the daemon until it is told to stop.
pub(super) fn run(args: &ServeArgs, printer: &Printer) -> ExitStatus {
    let loaded = match load_or_tell(&args.config.config, printer) {
        Ok(loaded) => loaded,
        Err(status) => return status,
    };
    let config = Arc::new(loaded.config);
    let level = log::start(&config.log);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    match serve(config, level, args.upgrade) {
        Ok(()) => ExitStatus::Good,
        Err(message) => {
            printer.error(&message);
            ExitStatus::Bad
        }
    }
}

fn serve(config: Arc<Config>, level: log::LevelHandle, upgrade: bool) -> Result<(), String> {
    if let Some(message) = unusable_certificates(&config.server).into_iter().next() {
        return Err(message);
    }
    let takeover = upgrade.then(|| Takeover::begin(&config.server)).transpose()?;
    if takeover.is_none() {
        probe(&config)?;
    }
    allow_open_files();
    let access_log = AccessLog::start(&config.log.access).map_err(|e| e.to_string())?;
    let gate = Arc::new(Gate::new(config.clone(), access_log)?);

    for site in gate.live.load().sites() {
        if let Err(e) = site.upstream.check_credentials() {
            tracing::error!("{e}");
        }
    }
    let opt = Opt { upgrade, ..Opt::default() };
    let mut server = Server::new_with_opt_and_conf(opt, framework_settings(&config.server));
    // Waits for the sockets, if they are to be taken over.
    server.bootstrap();
    drop(takeover);
    takeover::write_pid(&config.server.pid_file);
    if let Some(disk) = gate.store.disk() {
        // By now a process that handed its sockets over has let go of the directory, or will soon.
        disk.start().map_err(|e| format!("cache.disk: {e}"))?;
    }
    gate.store.start_sweeping().map_err(|e| e.to_string())?;
    if let Some(cluster) = gate.cluster {
        cluster.start();
    }
    if let Some(redis) = gate.redis {
        redis.start();
    }
    if let Some(cluster) = gate.cluster {
        cluster.wait_for_the_log();
    }
    let conf = server.configuration.clone();

    let mut proxy = http_proxy(&conf, Hooks(gate.clone()));
    proxy.handle_init_modules();
    let app = App::new(proxy, gate.clone());
    let mut listener = Service::new("proxy".to_owned(), app);
    listener.threads = Some(config.server.threads);
    for address in &config.server.listen {
        listener.add_tcp(&address.to_string());
    }
    for tls in &config.server.tls {
        let (cert, key) = (tls.cert.to_string_lossy(), tls.key.to_string_lossy());
        let settings = TlsSettings::intermediate(&cert, &key);
        let mut settings = settings.map_err(|e| format!("{cert}: the certificate or its key cannot be used: {e}"))?;
        settings.enable_h2();
        listener.add_tls_with_settings(&tls.listen.to_string(), None, settings);
    }
    server.add_service(listener);

    let draining = Arc::new(AtomicBool::new(false));
    if let Some(admin) = &config.admin {
        let app = Admin { gate: gate.clone(), draining: draining.clone(), started: Instant::now() };
        let mut listener = Service::new("admin".to_owned(), HttpServer::new_app(app));
        listener.threads = Some(1);
        listener.add_tcp(&admin.listen.to_string());
        server.add_service(listener);
    }
    server.add_service(background_service("reload", Reloader::new(gate.clone(), level)));

    let phases = server.watch_execution_phase();
    let (watched, pid_file) = (gate.clone(), config.server.pid_file.clone());
    let watcher = std::thread::Builder::new().name("drain".to_owned());
    watcher.spawn(move || leave_when_idle(phases, &watched, &draining, &pid_file)).map_err(|e| e.to_string())?;
    for address in &config.server.listen {
        tracing::info!(listen = %address, "serving");
    }
    server.run(RunArgs::default());
    Ok(())
}

/// Allows this process as many open files as it may have: connections and the files of the disk tier share them.
fn allow_open_files() {
    let allowed = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(now, most)| if now < most { setrlimit(Resource::RLIMIT_NOFILE, most, most) } else { Ok(()) });
    if let Err(error) = allowed {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// Says why a certificate and its key cannot be used, before Pingora would panic about it in a thread of its own.
pub(super) fn unusable_certificates(server: &ServerConfig) -> Vec<String> {
    let told = server.tls.iter().enumerate().filter_map(|(i, tls)| {
        let (cert, key) = (tls.cert.display(), tls.key.display());
        let why = match load_certs_and_key_files(&tls.cert.to_string_lossy(), &tls.key.to_string_lossy()) {
            Ok(Some((chain, _))) if !chain.is_empty() => return None,
            Ok(_) => "one of them holds nothing of that kind".to_owned(),
            Err(e) => e.to_string(),
        };
        Some(format!(
            "server.tls[{i}]: `{cert}` and `{key}` cannot be used: {why}; name a PEM chain and its private key"
        ))
    });
    told.collect()
}

/// Says which address cannot be listened on, before Pingora would panic about it in a thread of its own.
fn probe(config: &Config) -> Result<(), String> {
    let server = &config.server;
    let addresses = server.listen.iter().chain(server.tls.iter().map(|tls| &tls.listen));
    for address in addresses.chain(config.admin.iter().map(|admin| &admin.listen)) {
        can_listen(address)?;
    }
    Ok(())
}

fn can_listen(address: &SocketAddr) -> Result<(), String> {
    TcpListener::bind(address).map(drop).map_err(|e| {
        format!(
            "{address}: cannot listen there: {e}; stop what uses it, or choose another address in the configuration"
        )
    })
}

fn framework_settings(server: &ServerConfig) -> ServerConf {
    ServerConf {
        threads: server.threads,
        pid_file: server.pid_file.to_string_lossy().into_owned(),
        upgrade_sock: server.upgrade_socket.to_string_lossy().into_owned(),
        grace_period_seconds: Some(server.drain.as_secs()),
        graceful_shutdown_timeout_seconds: Some(1),
        upstream_keepalive_pool_size: 512,
        // Each origin's own `retries` decides; this is only the framework's upper bound.
        max_retries: 16,
        ..ServerConf::default()
    }
}

/// Ends a stopping process as soon as nobody waits for it, instead of after the whole of `server.drain`.
fn leave_when_idle(
    mut phases: tokio::sync::broadcast::Receiver<ExecutionPhase>,
    gate: &Gate,
    draining: &AtomicBool,
    pid_file: &Path,
) {
    while let Ok(phase) = phases.blocking_recv() {
        if matches!(phase, ExecutionPhase::GracefulTerminate | ExecutionPhase::GracefulUpgradeTransferringFds) {
            draining.store(true, Ordering::Release);
        }
        if matches!(phase, ExecutionPhase::GracefulUpgradeTransferringFds) {
            // The process that takes over needs the directory.
            gate.store.close();
        }
        if matches!(phase, ExecutionPhase::ShutdownGracePeriod) {
            while gate.active() > 0 {
                std::thread::sleep(Duration::from_millis(20));
            }
            // Under HTTP/2 a connection writes what its requests have left with it in a task of its own.
            std::thread::sleep(LAST_BYTES);
            tracing::info!("every request is answered; leaving");
            takeover::remove_pid(pid_file);
            if let Some(cluster) = gate.cluster {
                cluster.leave();
            }
            gate.store.close();
            gate.close_logs();
            std::process::exit(0);
        }
    }
}
