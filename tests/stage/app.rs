// SPDX-License-Identifier: BSD-3-Clause
//! The DPDK application on the stage.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::guest::{self, Driver, Machine};
use super::{BUILD, PATIENCE, wait_for};

/// A DPDK application with the driver and the stand-in VF loaded. It ends with this value.
///
/// When its test fails, its log is shown.
pub struct App {
    process: Process,
    stdin: Option<Box<dyn Write + Send>>,
    replies: Receiver<String>,
    log: Log,
}

enum Process {
    /// In the namespaces of this thread.
    Child(Child),
    /// In the guest of this thread.
    Guest { machine: Arc<Machine>, pid: u32, ended: Receiver<ExitStatus> },
}

impl Process {
    fn try_wait(&mut self) -> Option<ExitStatus> {
        match self {
            Self::Child(child) => child.try_wait().unwrap(),
            Self::Guest { ended, .. } => ended.try_recv().ok(),
        }
    }
}

enum Log {
    /// The file that it writes.
    File(String),
    /// What has come out of the guest.
    Port(Arc<Mutex<Vec<u8>>>),
}

impl App {
    /// Starts it with the driver's plugin, and waits until EAL is up.
    pub fn start(arguments: &[&str]) -> Self {
        Self::up(Self::command_with_plugin(&[], arguments))
    }

    /// As [`App::start`], with the DPDK library `first` loaded before all others: what it registers comes first.
    pub fn start_behind(first: &str, arguments: &[&str]) -> Self {
        Self::up(Self::command_with_plugin(&["-d", first], arguments))
    }

    /// As [`App::start`], with the driver logging at `level` and above only, such as `error` or `warning`.
    pub fn start_saying(level: &str, arguments: &[&str]) -> Self {
        // A plugin takes the first level that fits.
        Self::up(Self::command_with_plugin(&[&format!("--log-level=pmd.net.vdev_netvsc:{level}")], arguments))
    }

    /// The command of an application that finds no driver of ours but the C driver, which EAL loads by itself.
    pub fn command_without_plugin(first: &[&str], last: &[&str]) -> Command {
        Self::command(&format!("{BUILD}/tests/app"), "0@0", first, last, true)
    }

    /// As [`App::command_with_plugin`], with a library made of this C source loaded before all else.
    pub fn command_with_preload(source: &str, first: &[&str], last: &[&str]) -> Command {
        let mut command = Self::command_with_plugin(first, last);
        command.env("LD_PRELOAD", super::compile(source, &["-shared", "-fPIC"]));
        command
    }

    /// The command of [`App::start`], with arguments that come first and last.
    pub fn command_with_plugin(first: &[&str], last: &[&str]) -> Command {
        Self::with_plugin(&format!("{BUILD}/tests/app"), "0@0", first, last)
    }

    /// Starts an application by a command, and waits until EAL is up.
    pub fn up(command: Command) -> Self {
        let app = Self::spawn(command);
        app.expect_reply("ready");
        app
    }

    /// Starts `program` with EAL arguments that fit the stage; `private` gives it memory that no other process shares.
    pub fn launch(program: &str, arguments: &[&str], private: bool) -> Self {
        Self::spawn(Self::command(program, "0@0", &[], arguments, private))
    }

    /// Starts `dpdk-testpmd`, as it is distributed, with the driver's plugin; it sends back what it receives.
    pub fn testpmd(arguments: &[&str]) -> Self {
        Self::spawn(Self::command_of_testpmd(arguments))
    }

    /// The command of [`App::testpmd`], to which options of its own can be added.
    pub fn command_of_testpmd(arguments: &[&str]) -> Command {
        // It wants a second thread for packets.
        let mut command = Self::with_plugin("dpdk-testpmd", "0@0,1@0", &[], arguments);
        command.args(["--", "--forward-mode=macswap", "--total-num-mbufs=4096"]);
        command
    }

    fn with_plugin(program: &str, cores: &str, first: &[&str], last: &[&str]) -> Command {
        let plugin = format!("{BUILD}/librte_net_vdev_netvsc.so");
        // The C driver is in the folder that EAL loads by itself, and would be first if it were named.
        let ours = guest::here().is_none_or(|guest| guest.driver == Driver::Ours);
        let plugin: &[&str] = if ours { &["-d", &plugin] } else { &[] };
        Self::command(program, cores, first, &[plugin, last].concat(), true)
    }

    fn command(program: &str, cores: &str, first: &[&str], arguments: &[&str], private: bool) -> Command {
        let vf = format!("{BUILD}/tests/librte_net_test_vf.so");
        let mut command = Command::new(program);
        command.args(first);
        command.args(["--lcores", cores, "-d", &vf, "--log-level=pmd.net.vdev_netvsc:8"]);
        // It would win (`eal_parse_common_option`).
        if !arguments.contains(&"--telemetry") {
            command.arg("--no-telemetry");
        }
        if private {
            command.args(["--no-huge", "-m", "128", "--no-shconf"]);
        }
        command.args(arguments);
        command
    }

    /// Starts an application by a command with all its arguments.
    pub fn spawn(mut command: Command) -> Self {
        if let Some(machine) = guest::here() {
            return Self::spawn_in(machine, &command);
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let log = format!("/run/app-{}.log", COUNT.fetch_add(1, Ordering::Relaxed));
        command.env("SYSFS_PCI_DEVICES", super::PCI);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&log).unwrap());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (send, replies) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        let stdin = child.stdin.take().map(|stdin| Box::new(stdin) as Box<dyn Write + Send>);
        Self { stdin, process: Process::Child(child), replies, log: Log::File(log) }
    }

    fn spawn_in(machine: Arc<Machine>, command: &Command) -> Self {
        let (number, port, mut log) = machine.app_ports();
        let (send, replies) = channel();
        let (send_pid, pid) = channel();
        let (send_end, ended) = channel();
        let lines = BufReader::new(port.try_clone().unwrap());
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                match line.split_once(' ') {
                    Some(("pid", pid)) => _ = send_pid.send(pid.parse().unwrap()),
                    Some(("ended", status)) => {
                        _ = send_end.send(ExitStatus::from_raw(status.parse::<i32>().unwrap() << 8));
                        return;
                    }
                    _ => _ = send.send(line),
                }
            }
        });
        let text = Arc::<Mutex<Vec<u8>>>::default();
        let more = Arc::clone(&text);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(size @ 1..) = log.read(&mut bytes) {
                more.lock().unwrap().extend(&bytes[..size]);
            }
        });
        machine.spawn(command, number);
        let pid = pid.recv_timeout(PATIENCE).expect("the guest starts no application");
        let process = Process::Guest { machine, pid, ended };
        Self { process, stdin: Some(Box::new(port)), replies, log: Log::Port(text) }
    }

    /// Waits for a line that is just this.
    pub fn expect_reply(&self, want: &str) {
        assert_eq!(self.reply(), want);
    }

    /// Waits until it has written a line that holds this to its standard output, and returns that.
    pub fn expect_said(&self, text: &str) -> String {
        std::iter::repeat_with(|| self.reply()).find(|line| line.contains(text)).expect(text)
    }

    fn reply(&self) -> String {
        // Closing ports and ending EAL may take a while under AddressSanitizer.
        match self.replies.recv_timeout(PATIENCE * 3) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                // Where cores are written, this one says who waits for what.
                self.signal(Signal::SIGABRT);
                std::thread::sleep(PATIENCE);
                panic!("the application does not answer");
            }
            Err(RecvTimeoutError::Disconnected) => panic!("the application ended"),
        }
    }

    /// Sends a line to which no reply is awaited.
    pub fn tell(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").expect("the application ended");
    }

    /// Tells how it has ended, if it has.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait()
    }

    /// Waits until it has ended by itself, and returns how.
    pub fn ended(mut self) -> ExitStatus {
        wait_for("the application ends", || self.process.try_wait())
    }

    /// Sends a command and returns the whole reply.
    pub fn send(&mut self, command: &str) -> String {
        writeln!(self.stdin.as_mut().unwrap(), "{command}").expect("the application ended");
        self.reply()
    }

    /// Sends a command that must succeed and returns what follows `ok`.
    pub fn ok(&mut self, command: &str) -> String {
        let reply = self.send(command);
        let rest = reply.strip_prefix("ok").unwrap_or_else(|| panic!("{command}: {reply}"));
        rest.trim_start().to_owned()
    }

    /// Sends a command that must fail and returns its errno.
    pub fn fails(&mut self, command: &str) -> i32 {
        let reply = self.send(command);
        let rest = reply.strip_prefix("error ").unwrap_or_else(|| panic!("{command}: {reply}"));
        rest.split(' ').next().and_then(|errno| errno.parse().ok()).unwrap_or_else(|| panic!("{command}: {reply}"))
    }

    /// Names of all ports, sorted.
    pub fn ports(&mut self) -> Vec<String> {
        let mut names: Vec<String> = self
            .ok("ports")
            .split_whitespace()
            // <number>:<name>:<owned>, and a name may hold colons.
            .map(|port| port.split_once(':').unwrap().1.rsplit_once(':').unwrap().0.to_owned())
            .collect();
        names.sort();
        names
    }

    /// Tells whether there is a port of this name.
    pub fn has_port(&mut self, name: &str) -> bool {
        self.ports().iter().any(|port| port == name)
    }

    /// Waits until there is a port of this name.
    pub fn expect_port(&mut self, name: &str) {
        wait_for(&format!("port {name}"), || self.has_port(name).then_some(()));
    }

    /// Waits until there is no port of this name.
    pub fn expect_no_port(&mut self, name: &str) {
        wait_for(&format!("no port {name}"), || (!self.has_port(name)).then_some(()));
    }

    /// The arguments that EAL holds of a virtual device.
    pub fn devargs(&mut self, name: &str) -> Option<String> {
        let vdevs = self.ok("vdevs");
        vdevs.split_whitespace().find_map(|vdev| {
            let (found, arguments) = vdev.split_once(',').unwrap_or((vdev, ""));
            (found == name).then(|| arguments.to_owned())
        })
    }

    /// Names of the netdevices that have a failsafe port, sorted.
    pub fn served(&mut self) -> Vec<String> {
        let failsafe: Vec<String> = self.ports().into_iter().filter(|name| name.starts_with("net_failsafe_")).collect();
        let mut names: Vec<String> = failsafe
            .into_iter()
            .map(|port| {
                let devargs = self.devargs(&port).unwrap_or_else(|| panic!("{port} is no virtual device"));
                let name = devargs.strip_suffix(')').and_then(|text| text.rsplit_once([',', '(']));
                let name = name.and_then(|(_, pair)| pair.split_once('='));
                name.unwrap_or_else(|| panic!("{port}: {devargs}")).1.to_owned()
            })
            .collect();
        names.sort();
        names
    }

    /// The numbers in the reply to `count`: open descriptors, ports.
    pub fn count(&mut self) -> (usize, usize) {
        let reply = self.ok("count");
        let number = |key: &str| {
            let value = reply.split_whitespace().find_map(|pair| pair.strip_prefix(key));
            value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("count: {reply}"))
        };
        (number("fds="), number("ports="))
    }

    /// Attaches a device, given as its name and arguments, and returns how long that took.
    pub fn time_attach(&mut self, device: &str) -> Duration {
        Duration::from_nanos(self.ok(&format!("time {device}")).parse().unwrap())
    }

    /// Bytes of its heap that are in use (`mallinfo2(3)`).
    pub fn heap_bytes(&mut self) -> u64 {
        self.ok("heap").parse().unwrap()
    }

    /// Everything it has logged so far.
    pub fn log(&self) -> String {
        let bytes = match &self.log {
            Log::File(path) => std::fs::read(path).unwrap_or_default(),
            Log::Port(bytes) => bytes.lock().unwrap().clone(),
        };
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What it has logged after the first `offset` bytes.
    pub fn log_from(&self, offset: usize) -> String {
        let Log::File(path) = &self.log else { return self.log().split_off(offset) };
        let mut file = File::open(path).unwrap();
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(offset as u64)).unwrap();
        file.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Lines of its log that hold `text`.
    pub fn logged(&self, text: &str) -> Vec<String> {
        self.log().lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }

    /// What the driver has logged so far, a line each.
    pub fn said(&self) -> Vec<String> {
        self.log().lines().filter_map(|line| line.strip_prefix("net_vdev_netvsc: ")).map(str::to_owned).collect()
    }

    /// Waits until it has logged `text`.
    pub fn expect_log(&self, text: &str) {
        wait_for(&format!("log line {text:?}"), || (!self.logged(text).is_empty()).then_some(()));
    }

    /// How many descriptors its EAL interrupt thread watches.
    pub fn watched(&self) -> usize {
        self.descriptors("tfd:").len()
    }

    /// Tells whether an alarm of its EAL is set: the timer behind all alarms runs.
    pub fn has_alarm(&self) -> bool {
        self.descriptors("it_value:").iter().any(|line| line != "it_value: (0, 0)")
    }

    /// Waits until no alarm is set any more. While callbacks run, no timer does: so one look is not enough.
    pub fn expect_no_alarm(&self) {
        let mut quiet = 0;
        wait_for("no alarm", || {
            quiet = if self.has_alarm() { 0 } else { quiet + 1 };
            (quiet == 20).then_some(())
        });
    }

    /// What the kernel tells of its descriptors in lines that begin so (`proc(5)`, `fdinfo`).
    fn descriptors(&self, beginning: &str) -> Vec<String> {
        let folder = std::fs::read_dir(format!("/proc/{}/fdinfo", self.pid())).unwrap();
        // A descriptor may be closed meanwhile.
        let texts = folder.filter_map(|entry| std::fs::read_to_string(entry.unwrap().path()).ok());
        let lines = |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>();
        texts.flat_map(lines).filter(|line| line.starts_with(beginning)).collect()
    }

    /// How often its interrupt thread has gone to sleep: once for each time something woke it.
    pub fn wakeups(&self) -> u64 {
        let status = self.interrupt_thread("status");
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.unwrap().trim().parse().unwrap()
    }

    /// How long its interrupt thread has been on a CPU (`schedstat`).
    pub fn interrupt_time(&self) -> Duration {
        let schedstat = self.interrupt_thread("schedstat");
        Duration::from_nanos(schedstat.split_whitespace().next().unwrap().parse().unwrap())
    }

    /// Number of its interrupt thread.
    pub fn interrupt_id(&self) -> u32 {
        let stat = self.interrupt_thread("stat");
        stat.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// What a file of the interrupt thread says (`proc(5)`).
    fn interrupt_thread(&self, file: &str) -> String {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        tasks
            .map(|task| task.unwrap().path())
            .find(|task| std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.contains("intr")))
            .map(|task| std::fs::read_to_string(task.join(file)).unwrap())
            .expect("the interrupt thread of EAL")
    }

    /// How much of its memory is in RAM, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        size.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Its process id, where it runs.
    pub fn pid(&self) -> u32 {
        match &self.process {
            Process::Child(child) => child.id(),
            Process::Guest { pid, .. } => *pid,
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        match &self.process {
            Process::Child(child) => kill(Pid::from_raw(child.id() as i32), signal).unwrap(),
            Process::Guest { machine, pid, .. } => _ = machine.shell(&format!("kill -{} {pid}", signal as i32)),
        }
    }

    /// Ends it at once, with whatever it holds.
    pub fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        wait_for("the killed application ends", || self.process.try_wait());
    }

    /// Has it clean up EAL, and returns how it ended.
    pub fn cleanup(self) -> ExitStatus {
        self.cleanup_and_log().0
    }

    /// As [`App::cleanup`], with all that it has logged.
    pub fn cleanup_and_log(mut self) -> (ExitStatus, String) {
        self.tell("cleanup");
        self.cleaned_up()
    }

    /// As [`App::cleanup`], as soon as the port `name` is gone, which `story` has happen.
    pub fn cleanup_when_gone(mut self, name: &str, story: impl FnOnce()) -> ExitStatus {
        self.tell(&format!("cleanup {name}"));
        story();
        self.cleaned_up().0
    }

    fn cleaned_up(mut self) -> (ExitStatus, String) {
        let status = wait_for("the application ends after cleanup", || self.process.try_wait());
        if !status.success() {
            eprintln!("--- cleanup: {status}");
            self.show_log();
        }
        (status, self.log())
    }

    /// Has it end as it is, without cleanup, and returns how it ended.
    pub fn quit(mut self) -> ExitStatus {
        let stdin = self.stdin.take();
        if let (Process::Guest { .. }, Some(mut port)) = (&self.process, stdin) {
            // Its input has no end there.
            writeln!(port, "quit").expect("the guest ended");
        }
        wait_for("the application ends", || self.process.try_wait())
    }

    fn show_log(&self) {
        // That the C driver fails is no news.
        if guest::here().is_some_and(|guest| guest.driver == Driver::C) {
            return;
        }
        let links = match &self.process {
            Process::Child(_) => super::ip("-d link"),
            // A guest that has ended must not hide why.
            Process::Guest { machine, .. } => {
                machine.try_shell("ip -d link").map_or_else(|error| error, |(text, _)| text)
            }
        };
        eprintln!("--- log of process {}\n{}---\n{links}", self.pid(), self.log());
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.stdin = None;
        match &mut self.process {
            Process::Child(child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
            Process::Guest { machine, pid, .. } => _ = machine.try_shell(&format!("kill -9 {pid} 2>/dev/null")),
        }
        if std::thread::panicking() {
            self.show_log();
        }
    }
}
