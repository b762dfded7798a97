// SPDX-License-Identifier: BSD-3-Clause
//! The second stage: a guest in QEMU, without KVM, on Debian's own kernel, whose NICs are plugged in and out over QMP.
//!
//! What is real beyond the first stage: the PCI bus and its hot-plug, sysfs, rtnetlink's account of parents, and the
//! kernel parts that the default fallback needs, `net_tap` with `remote=`. `docs/stages.md` has both side by side.
//!
//! A guest belongs to the thread that made it, as the namespaces of the first stage do: [`super::run`], [`super::App`]
//! and [`super::Wire`] of that thread are in the guest, or at the far ends of its wires. Its sockets and files are in a
//! mount namespace of the thread's own. QEMU ends with the thread, and the thread's process with its parent: nothing is
//! left behind, however these end.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

use super::{PATIENCE, Place, build, wait_for};

/// Where sockets and logs of this guest are, for its thread.
const FOLDER: &str = "/run";

/// How many applications a story can start, one after the other or at once.
const APPS: u32 = 6;

/// Root ports, behind which NICs are plugged: the one at bus 1 takes what is at 0000:01:00.0.
const PCI_PORTS: u32 = 10;

/// NetVSC NICs go behind this root port and those after it, VFs where their addresses say.
const FIRST_NETVSC_BUS: u32 = 4;

thread_local! {
    static HERE: RefCell<Option<Arc<Machine>>> = const { RefCell::new(None) };
}

/// The guest of this thread, if it has one.
pub fn here() -> Option<Arc<Machine>> {
    HERE.with_borrow(Clone::clone)
}

/// Whose driver the applications load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Driver {
    /// This project's plugin.
    Ours,
    /// The C driver in the distribution's folder of plugins, that EAL loads by itself.
    C,
}

/// A guest as a story sees it.
pub struct Guest {
    machine: Arc<Machine>,
    /// The NICs that are plugged in, by the names that their netdevices have now.
    nics: BTreeMap<String, Nic>,
}

struct Nic {
    /// What QEMU knows it by: the first name of its netdevice.
    id: String,
    bus: u32,
}

/// What a running QEMU is steered by.
pub struct Machine {
    qemu: Mutex<Child>,
    qmp: Mutex<BufReader<UnixStream>>,
    shell: Mutex<BufReader<UnixStream>>,
    /// Two ports for each application that is not started yet: its replies, its log.
    ports: Mutex<Vec<(u32, UnixStream, UnixStream)>>,
    wires: Mutex<BTreeMap<String, Arc<Tap>>>,
    /// Whose driver applications load.
    pub driver: Driver,
}

/// The host's end of a NIC's wire: one datagram is one frame.
pub struct Tap {
    socket: UnixDatagram,
    far: String,
    listeners: Mutex<Vec<Sender<Vec<u8>>>>,
    /// Frames from the beginning, for the first who listens.
    first: Mutex<Option<Receiver<Vec<u8>>>>,
}

impl Tap {
    fn new(name: &str) -> Arc<Self> {
        let near = format!("{FOLDER}/{name}.remote");
        let _ = fs::remove_file(&near);
        let socket = UnixDatagram::bind(&near).expect(&near);
        // A NIC that is down takes no frames.
        socket.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        let far = format!("{FOLDER}/{name}.local");
        let (send, first) = channel();
        let (listeners, first) = (Mutex::new(vec![send]), Mutex::new(Some(first)));
        let tap = Arc::new(Self { socket, far, listeners, first });
        let reader = Arc::clone(&tap);
        // All the time: the kernel keeps no more than a few datagrams.
        std::thread::spawn(move || {
            let mut frame = vec![0; 65536];
            while let Ok(size @ 1..) = reader.socket.recv(&mut frame) {
                reader.listeners.lock().unwrap().retain(|listener| listener.send(frame[..size].to_vec()).is_ok());
            }
        });
        tap
    }

    /// Sends a frame into the guest.
    pub fn send(&self, frame: &[u8]) -> bool {
        self.socket.send_to(frame, &self.far).is_ok()
    }

    /// Frames that come out from now on; for the first who listens, all that have come out.
    pub fn listen(&self) -> Receiver<Vec<u8>> {
        if let Some(all) = self.first.lock().unwrap().take() {
            return all;
        }
        let (send, receive) = channel();
        self.listeners.lock().unwrap().push(send);
        receive
    }
}

impl Machine {
    /// The far end of a wire, by the name of its end in the first stage: `<NIC>p`.
    pub fn wire(&self, name: &str) -> Arc<Tap> {
        let nic = name.strip_suffix('p').expect(name);
        Arc::clone(self.wires.lock().unwrap().get(nic).unwrap_or_else(|| panic!("no NIC {nic} was ever plugged in")))
    }

    /// Runs a shell command in the guest, and returns what it printed, and its exit status.
    pub fn shell(&self, command: &str) -> (String, i32) {
        self.try_shell(command).unwrap_or_else(|error| panic!("{error}\n{}", console()))
    }

    /// As [`Machine::shell`]; the guest may have ended.
    pub fn try_shell(&self, command: &str) -> Result<(String, i32), String> {
        assert!(!command.contains('\n'), "one line: {command}");
        let mut shell = self.shell.lock().unwrap();
        // The group keeps a command's own redirections and background processes off the line that ends it.
        let line = format!("{{ {command}; }}; printf '\\036%d\\n' $?\n");
        // In one piece: busybox's shell forgets the part of a line that it has read when a process of its own ends.
        shell.get_mut().write_all(line.as_bytes()).map_err(|_| format!("the guest ended before: {command}"))?;
        let mut output = String::new();
        loop {
            let mut line = String::new();
            match shell.read_line(&mut line) {
                Ok(1..) => output += &line,
                Ok(0) => return Err(format!("the guest ended: {command}")),
                Err(error) => return Err(format!("the guest does not answer: {command}: {error}\n{output}")),
            }
            if let Some((text, status)) = output.trim_end_matches('\n').rsplit_once('\x1e') {
                return Ok((text.to_owned(), status.parse().unwrap()));
            }
        }
    }

    /// Runs a program in the guest, and returns what it printed; a failure fails the test.
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let command: Vec<String> = std::iter::once(&program).chain(arguments).map(|word| quoted(word)).collect();
        let (text, status) = self.shell(&command.join(" "));
        assert_eq!(status, 0, "{program} {arguments:?}: {text}");
        text
    }

    /// Takes the two ports of a new application: number, replies, log.
    pub fn app_ports(&self) -> (u32, UnixStream, UnixStream) {
        self.ports.lock().unwrap().pop().expect("a guest has no port for so many applications")
    }

    /// Starts a program on two ports. What it answers begins with `pid <n>` and ends with `ended <status>`.
    pub fn spawn(&self, command: &Command, number: u32) {
        let environment = command.get_envs().filter_map(|(name, value)| {
            Some(format!("{}={}", name.to_str().unwrap(), quoted(value?.to_str().unwrap())))
        });
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words = environment.chain(words.map(|word| quoted(word.to_str().unwrap()))).collect::<Vec<_>>().join(" ");
        let (replies, log) = (format!("/dev/vport0p{number}"), format!("/dev/vport0p{}", number + 1));
        // A port cannot be opened twice.
        let (text, status) = self.shell(&format!(
            "( exec 5<>{replies} 6>{log}; {words} <&5 >&5 2>&6 3<&- 5<&- 6<&- & echo pid $! >&5; wait $!; \
             echo ended $? >&5 ) >/dev/null 2>&1 3<&- & true"
        ));
        assert_eq!(status, 0, "{words}: {text}");
    }

    /// Has QEMU do something, with arguments as JSON has them between its braces.
    pub fn qmp(&self, execute: &str, arguments: &str) {
        let request = format!(r#"{{"execute": "{execute}", "arguments": {{{arguments}}}}}"#);
        writeln!(self.qmp.lock().unwrap().get_mut(), "{request}").expect("QEMU ended");
        let answer = self.qmp_next(|answer| !answer.contains(r#""event": "#));
        assert!(answer.starts_with(r#"{"return": "#), "{request}: {answer}");
    }

    /// The next message from QEMU that is `wanted`, a line of JSON; others are dropped.
    fn qmp_next(&self, wanted: impl Fn(&str) -> bool) -> String {
        loop {
            let mut line = String::new();
            let size = self.qmp.lock().unwrap().read_line(&mut line).expect("QEMU does not answer");
            assert!(size > 0, "QEMU ended: {}", said_by_qemu());
            if wanted(&line) {
                return line;
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let qemu = self.qemu.get_mut().unwrap();
        let _ = qemu.kill();
        let _ = qemu.wait();
        for tap in self.wires.get_mut().unwrap().values() {
            let _ = tap.socket.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Guest {
    /// Boots a guest for this thread, whose applications load this driver.
    pub fn boot(driver: Driver) -> Self {
        Self::boot_with(driver, "guest", "", &[])
    }

    /// As [`Guest::boot`], from another folder of `tests/guest/image.sh`, with more words for the kernel's command line
    /// and more arguments for QEMU.
    pub fn boot_with(driver: Driver, folder: &str, kernel: &str, qemu: &[&str]) -> Self {
        // Whoever kills `make` or `cargo test` alone wants no tests and guests to go on.
        set_pdeathsig(Signal::SIGKILL).unwrap();
        // Only the mounts: a thread with a network of its own would do no harm, and no good.
        unshare(CloneFlags::CLONE_NEWNS).expect("unshare needs root");
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("make mounts private");
        mount(Some("stage"), FOLDER, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).expect(FOLDER);

        // It ends with this thread. Had that ended before setpriv asked for it, nobody would listen at these sockets,
        // and QEMU would not start.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        // DPDK asks for more than the default CPU has.
        command.args(["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "1", "-m", "512"]);
        let image = |file: &str| format!("{}/{folder}/{file}", build());
        command.args(["-kernel", &image("vmlinuz"), "-initrd", &image("image.cpio")]);
        // The kernel's own IPv6 frames would disturb what the C driver takes for an address of the interface.
        let words = format!("console=ttyS0 quiet panic=-1 nokaslr mitigations=off ipv6.disable=1 {kernel}");
        command.args(["-append", &words, "-serial", &format!("file:{FOLDER}/console")]);
        let mut listen = |id: &str| {
            let path = format!("{FOLDER}/{id}");
            command.args(["-chardev", &format!("socket,id={id},path={path}")]);
            UnixListener::bind(&path).expect(&path)
        };
        let qmp = listen("qmp");
        let ports: Vec<UnixListener> = (1..=1 + 2 * APPS).map(|number| listen(&format!("port{number}"))).collect();
        command.args(["-mon", "chardev=qmp,mode=control"]);
        // At the lowest address, so that Linux counts it as the first virtio device.
        command.args(["-device", "virtio-serial-pci,addr=1,max_ports=31"]);
        for number in 1..=ports.len() {
            command.args(["-device", &format!("virtserialport,chardev=port{number},nr={number}")]);
        }
        // The firmware numbers buses in this order.
        for bus in 1..=PCI_PORTS {
            command.args(["-device", &format!("pcie-root-port,id=bus{bus},chassis={bus},slot={bus},addr={}", bus + 1)]);
        }
        command.args(qemu);
        let log = fs::File::create(format!("{FOLDER}/qemu.log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut child = command.spawn().expect("setpriv, of util-linux");

        let mut accept = |listener: &UnixListener| {
            listener.set_nonblocking(true).unwrap();
            let stream = wait_for("QEMU starts", || {
                if let Ok(Some(status)) = child.try_wait() {
                    panic!("qemu-system-x86_64 ended, {status}: {}", said_by_qemu());
                }
                listener.accept().ok()
            });
            stream.0.set_nonblocking(false).unwrap();
            stream.0
        };
        let qmp = accept(&qmp);
        let mut ports: Vec<UnixStream> = ports.iter().map(accept).collect();
        let shell = ports.remove(0);
        for stream in [&qmp, &shell] {
            stream.set_read_timeout(Some(PATIENCE * 3)).unwrap();
        }
        let mut apps = Vec::new();
        for number in (2..2 + 2 * APPS).step_by(2).rev() {
            let log = ports.pop().unwrap();
            apps.push((number, ports.pop().unwrap(), log));
        }
        let machine = Arc::new(Machine {
            qemu: Mutex::new(child),
            qmp: Mutex::new(BufReader::new(qmp)),
            shell: Mutex::new(BufReader::new(shell)),
            ports: Mutex::new(apps),
            wires: Mutex::default(),
            driver,
        });
        machine.qmp_next(|message| message.starts_with(r#"{"QMP": "#));
        machine.qmp("qmp_capabilities", "");
        let mut ready = String::new();
        machine.shell.lock().unwrap().read_line(&mut ready).unwrap_or_else(|error| panic!("{error}: {}", console()));
        assert_eq!(ready, "ready\n", "{}", console());
        HERE.set(Some(Arc::clone(&machine)));
        Self { machine, nics: BTreeMap::new() }
    }

    /// The process of its QEMU.
    pub fn pid(&self) -> u32 {
        self.machine.qemu.lock().unwrap().id()
    }

    /// Runs a shell command in the guest, and returns what it printed; a failure fails the test.
    pub fn shell(&self, command: &str) -> String {
        let (text, status) = self.machine.shell(command);
        assert_eq!(status, 0, "{command}: {text}");
        text
    }

    /// Plugs a NIC in behind a root port, and has its netdevice named and set up.
    fn plug(&mut self, name: &str, model: &str, bus: u32, mac: &str) {
        // As udev's rules do: the kernel's own name first, then the one it is to have; then netvsc sets a VF up.
        let found = self.plug_in(name, model, bus, mac, "");
        self.shell(&format!("busybox ip link set {found} name {name} && busybox ip link set {name} up"));
    }

    /// Plugs a NIC in with more properties, `, "name": value` each, and waits for its netdevice, whose name it returns.
    pub(super) fn plug_in(&mut self, name: &str, model: &str, bus: u32, mac: &str, more: &str) -> String {
        let tap = Tap::new(name);
        let end = |side: &str| format!(r#""{side}": {{"type": "unix", "path": "{FOLDER}/{name}.{side}"}}"#);
        let wire = format!(r#""type": "dgram", "id": "wire-{name}", {}, {}"#, end("local"), end("remote"));
        self.machine.qmp("netdev_add", &wire);
        let nic = format!(r#""driver": "{model}", "id": "{name}", "bus": "bus{bus}", "mac": "{mac}", "romfile": """#);
        self.machine.qmp("device_add", &format!(r#"{nic}, "netdev": "wire-{name}"{more}"#));
        self.machine.wires.lock().unwrap().insert(name.to_owned(), tap);
        self.nics.insert(name.to_owned(), Nic { id: name.to_owned(), bus });
        let found = format!("/sys/bus/pci/devices/0000:{bus:02x}:00.0");
        let netdevice = self.shell(&format!(
            "n=0; until set -- {found}/net/* {found}/virtio*/net/*; [ -e $1 ] || shift; [ -e \"$1\" ] || [ $n = 2000 ]; \
             do n=$((n+1)); usleep 5000; done; echo ${{1##*/}}"
        ));
        netdevice.trim_end().to_owned()
    }

    /// A root port with nothing behind it that no VF's address names.
    pub(super) fn free_bus(&self) -> u32 {
        let free = (FIRST_NETVSC_BUS..=PCI_PORTS).find(|bus| !self.nics.values().any(|nic| nic.bus == *bus));
        free.expect("a free root port")
    }

    /// Pulls a NIC out, and waits until the guest has let it go.
    pub(super) fn unplug(&mut self, name: &str) {
        let Nic { id, .. } = self.nics.remove(name).expect(name);
        self.machine.qmp("device_del", &format!(r#""id": "{id}""#));
        let device = format!(r#""device": "{id}""#);
        self.machine.qmp_next(|message| message.contains(r#""event": "DEVICE_DELETED""#) && message.contains(&device));
        self.machine.qmp("netdev_del", &format!(r#""id": "wire-{id}""#));
    }
}

impl Place for Guest {
    fn netvsc_appears(&mut self, name: &str, mac: &str) {
        let bus = self.free_bus();
        self.plug(name, "virtio-net-pci", bus, mac);
    }

    fn netvsc_goes(&mut self, name: &str) {
        self.unplug(name);
    }

    fn vf_appears(&mut self, name: &str, address: &str, mac: &str) {
        self.plug(name, "vmxnet3", bus_of(address), mac);
    }

    fn vf_goes(&mut self, name: &str, _: &str) {
        self.unplug(name);
    }

    /// The guest's kernel drops the function as it does one that no longer answers; QEMU pulls it out after that.
    fn vf_vanishes(&mut self, name: &str, address: &str) {
        self.shell(&format!("echo 1 >/sys/bus/pci/devices/{address}/remove"));
        self.unplug(name);
    }

    fn rename(&mut self, name: &str, new: &str, _: Option<&str>) {
        let nic = self.nics.remove(name).expect(name);
        self.nics.insert(new.to_owned(), nic);
        self.shell(&format!("ip link set {name} down && ip link set {name} name {new} && ip link set {new} up"));
    }

    fn arguments(&self) -> &'static str {
        ",force=1"
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if std::thread::panicking() && self.machine.driver == Driver::Ours {
            eprintln!("--- console of the guest\n{}---", console());
        }
        HERE.set(None);
    }
}

/// The root port that has a device at this address.
pub(super) fn bus_of(address: &str) -> u32 {
    address.split(':').nth(1).and_then(|bus| u32::from_str_radix(bus, 16).ok()).expect(address)
}

/// What the guest's kernel has said.
fn console() -> String {
    fs::read_to_string(format!("{FOLDER}/console")).unwrap_or_default()
}

fn said_by_qemu() -> String {
    fs::read_to_string(format!("{FOLDER}/qemu.log")).unwrap_or_default()
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
