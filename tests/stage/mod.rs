// SPDX-License-Identifier: BSD-3-Clause
//! The stage of the end-to-end tests: a network and mount namespace of its own, with real netdevices in it, and in it a
//! real DPDK application (`tests/app`) that a test steers line by line.
//!
//! What is real: kernel, netdevices (veth), rtnetlink, EAL, failsafe, af_packet, the driver. What stands in: the files
//! by which sysfs tells that a netdevice sits on a NetVSC or PCI device, and the VF's PMD (`tests/vf`), which drives a
//! netdevice as mlx5 does.
//!
//! The second stage is a guest in QEMU ([`Guest`]); `docs/stages.md` has both side by side. A story that plays on either
//! asks for what [`Place`] has.
//!
//! Namespaces belong to the thread that made the stage, and so to one test. When thread and application end, the kernel
//! takes everything away: netdevices, mounts, files. Needs root.
#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test ends so")]

mod app;
mod churn;
mod guest;
mod hypervisor;
mod mailbox;
mod memory;
mod openvswitch;
pub mod recipe;
mod wire;

#[allow(unused_imports, reason = "each test uses a part of it")]
pub use app::App;
#[allow(unused_imports, reason = "each test uses a part of it")]
pub use churn::Churn;
#[allow(unused_imports, reason = "each test uses a part of it")]
pub use guest::{Driver, Guest};
#[allow(unused_imports, reason = "each test uses a part of it")]
pub use hypervisor::{Hyperv, Kvm, neighbour_answers};
#[allow(unused_imports, reason = "each test uses a part of it")]
pub use mailbox::Mailbox;
#[allow(unused_imports, reason = "each test uses a part of it")]
pub use memory::HugePages;
#[allow(unused_imports, reason = "each test uses a part of it")]
pub use openvswitch::OpenVswitch;
#[allow(unused_imports, reason = "each test uses a part of it")]
pub use wire::{Frame, Traffic, Wire, dropped_in, exchange, exchange_flows, expect_answer, parse_mac};

use std::any::Any;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Address of the first NetVSC netdevice and its VF.
pub const MAC: &str = "00:15:5d:00:00:01";

/// Where the build folder is seen on the stage: EAL refuses plugins below a world-writable folder, and the checkout may
/// lie in one.
pub const BUILD: &str = "/mnt";

/// Folder of the netdevices in sysfs.
pub const NET: &str = "/sys/class/net";
/// Folder of the netdevices without a device.
const VIRTUAL: &str = "/sys/devices/virtual/net";
/// Folder of the PCI devices that EAL sees.
pub const PCI: &str = "/run/pci";

/// Where the plugins of the distribution are after [`Stage::only_plugins`].
pub const PLUGINS: &str = "/run/plugins";

/// And where those are that it left.
const SOME_PLUGINS: &str = "/run/some-plugins";

/// How long a test waits for what must happen. Long, as machines may be slow; nothing waits when all is well.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Where a story plays that has the same text on both stages.
///
/// The far end of a netdevice's wire is called `<name>p`, also when the netdevice has got another name.
pub trait Place {
    /// Plugs a NetVSC NIC in.
    fn netvsc_appears(&mut self, name: &str, mac: &str);
    /// Pulls a NetVSC NIC out.
    fn netvsc_goes(&mut self, name: &str);
    /// Plugs a VF in, whose netdevice gets this name and is set up as netvsc does.
    fn vf_appears(&mut self, name: &str, address: &str, mac: &str);
    /// Waits until an application drives the VF, where frames by its wire do not tell.
    fn expect_driven(&self, _address: &str) {}
    /// Pulls a VF out, as the host does that asks the guest first.
    fn vf_goes(&mut self, name: &str, address: &str);
    /// Takes a VF away without asking: it is gone before anybody is told.
    fn vf_vanishes(&mut self, name: &str, address: &str);
    /// Gives a netdevice another name. One on a PCI function says at which address that is.
    fn rename(&mut self, name: &str, new: &str, address: Option<&str>);
    /// Arguments that the driver needs here beside the interface, with a comma before each.
    fn arguments(&self) -> &'static str;
}

/// A private network and mount namespace with stand-ins for sysfs.
pub struct Stage {
    last_index: u32,
}

impl Stage {
    /// Makes an empty stage for this thread.
    pub fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("unshare needs root");
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("make mounts private");
        mount(Some(build().as_str()), BUILD, none, MsFlags::MS_BIND, none).expect("the build folder: run make first");
        for place in [NET, VIRTUAL, "/run"] {
            mount(Some("stage"), place, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).expect(place);
        }
        fs::create_dir(PCI).unwrap();
        mount(Some(PCI), "/sys/bus/pci/devices", none, MsFlags::MS_BIND, none).expect("/sys/bus/pci/devices");
        // The kernel's own IPv6 frames would disturb counts; tests that want IPv6 switch it on.
        fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        ip("link set lo up");
        Self { last_index: 100 }
    }

    fn new_index(&mut self) -> u32 {
        self.last_index += 1;
        self.last_index
    }

    /// Makes a NetVSC netdevice `name`, whose wire ends at `<name>p`.
    pub fn netvsc_appears(&mut self, name: &str, mac: &str) -> u32 {
        let index = self.new_index();
        let device = format!("{NET}/.vmbus/{name}");
        write(&format!("{device}/class_id"), "{f8615163-df3e-46c5-913f-f2d2f965ed0e}\n");
        link("../../.bus/vmbus", &format!("{device}/subsystem"));
        show(name, index, Some(&format!("../.vmbus/{name}")));
        veth(name, index, mac);
        index
    }

    /// Makes an Ethernet netdevice without a device, whose wire ends at `<name>p`.
    pub fn link_appears(&mut self, name: &str, mac: &str) -> u32 {
        let index = self.new_index();
        show(name, index, None);
        veth(name, index, mac);
        index
    }

    /// Makes a netdevice without a device and without a wire, to which others can be enslaved.
    pub fn master_appears(&mut self, name: &str, mac: &str) -> u32 {
        let index = self.new_index();
        show(name, index, None);
        ip(&format!("link add {name} index {index} address {mac} type bridge"));
        ip(&format!("link set {name} up"));
        index
    }

    /// Makes a VF's netdevice `name` on the PCI function `address`, whose wire ends at `<name>p`.
    pub fn vf_appears(&mut self, name: &str, address: &str, mac: &str) -> u32 {
        let index = self.vf_is_due(name, address);
        // Between two commands a busy kernel may take seconds, and a VF is attached that stays down for three. So it is
        // nobody's VF until it is up.
        veth(name, index, &format!("02:00:00:00:{:02x}:{:02x}", index >> 8 & 0xff, index & 0xff));
        ip(&format!("link set {name} address {mac}"));
        show_address(name, mac);
        index
    }

    /// Makes all that sysfs tells of a VF whose netdevice is about to be made, and returns the index that it has to get.
    pub fn vf_is_due(&mut self, name: &str, address: &str) -> u32 {
        let index = self.new_index();
        self.function_appears(address, "test_vf");
        fs::create_dir_all(format!("{PCI}/{address}/net/{name}")).unwrap();
        let device = format!("{NET}/.pci/{address}");
        fs::create_dir_all(&device).unwrap();
        link("../../.bus/pci", &format!("{device}/subsystem"));
        show(name, index, Some(&format!("../.pci/{address}")));
        index
    }

    /// Makes a PCI function as EAL's scan wants it (`drivers/bus/pci/linux/pci.c`), bound to a kernel driver. One that is
    /// there stays as it is.
    pub fn function_appears(&self, address: &str, driver: &str) {
        let zero = "0x0000000000000000";
        for (file, text) in [
            ("vendor", "0x7e57\n".to_owned()),
            ("device", "0x0001\n".to_owned()),
            ("subsystem_vendor", "0x0000\n".to_owned()),
            ("subsystem_device", "0x0000\n".to_owned()),
            ("class", "0x020000\n".to_owned()),
            ("numa_node", "-1\n".to_owned()),
            ("resource", format!("{zero} {zero} {zero}\n").repeat(6)),
        ] {
            let path = format!("{PCI}/{address}/{file}");
            if !fs::exists(&path).unwrap() {
                write(&path, &text);
            }
        }
        link(&format!("../../drivers/{driver}"), &format!("{PCI}/{address}/driver"));
    }

    /// Has the stand-in PMD do something wrong with a function, as `tests/vf/vf.c` lists it; `text` may say how often.
    pub fn spoil(&self, address: &str, what: &str, text: &str) {
        fs::write(format!("{PCI}/{address}/{what}"), text).unwrap();
    }

    /// Ends what [`Stage::spoil`] began.
    pub fn mend(&self, address: &str, what: &str) {
        fs::remove_file(format!("{PCI}/{address}/{what}")).unwrap();
    }

    /// Shows a VMBus with a device on it among the buses, which has none of this machine's but the PCI bus then.
    pub fn vmbus_appears(&self) {
        let none: Option<&str> = None;
        let (all, kept) = ("/sys/bus", "/run/bus-pci");
        fs::create_dir(kept).unwrap();
        mount(Some("/sys/bus/pci"), kept, none, MsFlags::MS_BIND | MsFlags::MS_REC, none).expect(kept);
        mount(Some("stage"), all, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).expect(all);
        fs::create_dir_all(format!("{all}/pci")).unwrap();
        mount(Some(kept), &*format!("{all}/pci"), none, MsFlags::MS_BIND | MsFlags::MS_REC, none).expect(all);
        fs::create_dir_all(format!("{all}/vmbus/devices/f8b3781a-1e82-4818-a1c3-63d806ec15bb")).unwrap();
    }

    /// Leaves only these of the plugins that EAL loads by itself, named as in `librte_<name>.so`. All of them are still
    /// found in the folder [`PLUGINS`].
    pub fn only_plugins(&self, names: &[&str]) {
        let ours = fs::canonicalize(format!("{BUILD}/librte_net_vdev_netvsc.so")).unwrap();
        let abi = ours.to_str().and_then(|name| name.rsplit_once(".so.")).expect("librte_net_vdev_netvsc.so.<ABI>").1;
        let libraries = run("pkg-config", &["--variable=libdir", "libdpdk"]);
        let folder = format!("{}/dpdk/pmds-{abi}", libraries.trim_end());
        let none: Option<&str> = None;
        for place in [PLUGINS, SOME_PLUGINS] {
            fs::create_dir(place).unwrap();
        }
        mount(Some(folder.as_str()), PLUGINS, none, MsFlags::MS_BIND, none).expect(&folder);
        for file in fs::read_dir(PLUGINS).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
            // Under all its names: what is linked with it asks for the one with the ABI.
            if names.iter().any(|name| file.starts_with(&format!("librte_{name}.so"))) {
                link(&format!("{PLUGINS}/{file}"), &format!("{SOME_PLUGINS}/{file}"));
            }
        }
        mount(Some(SOME_PLUGINS), folder.as_str(), none, MsFlags::MS_BIND, none).expect(&folder);
    }

    /// Adds one to those that [`Stage::only_plugins`] left.
    pub fn add_plugin(&self, file: &str) {
        link(file, &format!("{SOME_PLUGINS}/{}", Path::new(file).file_name().unwrap().to_string_lossy()));
    }

    /// Makes a netdevice `name` of another kind, as `ip link add` describes it, that sits on no device.
    pub fn virtual_appears(&mut self, name: &str, kind: &str) -> u32 {
        let index = self.new_index();
        show(name, index, None);
        ip(&format!("link add name {name} index {index} {kind}"));
        ip(&format!("link set {name} up"));
        index
    }

    /// Makes the ibverbs device of a PCI function, as the kernel does some time after the netdevice.
    pub fn verbs_appear(&self, address: &str) {
        fs::create_dir_all(format!("{PCI}/{address}/infiniband_verbs/uverbs0")).unwrap();
    }

    /// Takes away one netdevice of a PCI function, which stays.
    pub fn netdevice_goes(&self, name: &str, address: &str) {
        self.link_goes(name);
        fs::remove_dir(format!("{PCI}/{address}/net/{name}")).unwrap();
    }

    /// Takes a VF away: its netdevice, then its PCI function.
    pub fn vf_goes(&self, name: &str, address: &str) {
        self.link_goes(name);
        fs::remove_dir_all(format!("{PCI}/{address}")).unwrap();
    }

    /// Takes a netdevice away.
    pub fn link_goes(&self, name: &str) {
        ip(&format!("link del {name}"));
        fs::remove_dir_all(format!("{NET}/{name}")).unwrap();
    }

    /// Renames a VF's netdevice, also below its PCI function.
    pub fn rename_vf(&self, name: &str, new: &str, address: &str) {
        fs::rename(format!("{PCI}/{address}/net/{name}"), format!("{PCI}/{address}/net/{new}")).unwrap();
        self.rename(name, new);
    }

    /// Renames a netdevice, and its place in sysfs as the kernel does.
    pub fn rename(&self, name: &str, new: &str) {
        fs::rename(format!("{NET}/{name}"), format!("{NET}/{new}")).unwrap();
        ip(&format!("link set {name} down"));
        ip(&format!("link set {name} name {new}"));
        ip(&format!("link set {new} up"));
    }
}

impl Place for Stage {
    fn netvsc_appears(&mut self, name: &str, mac: &str) {
        Self::netvsc_appears(self, name, mac);
    }

    fn netvsc_goes(&mut self, name: &str) {
        self.link_goes(name);
    }

    fn vf_appears(&mut self, name: &str, address: &str, mac: &str) {
        Self::vf_appears(self, name, address, mac);
    }

    fn vf_goes(&mut self, name: &str, address: &str) {
        Self::vf_goes(self, name, address);
    }

    fn vf_vanishes(&mut self, name: &str, address: &str) {
        fs::remove_dir_all(format!("{PCI}/{address}")).unwrap();
        self.link_goes(name);
    }

    fn rename(&mut self, name: &str, new: &str, address: Option<&str>) {
        match address {
            Some(address) => self.rename_vf(name, new, address),
            None => Self::rename(self, name, new),
        }
    }

    /// The kernel may lack what the default fallback needs.
    fn arguments(&self) -> &'static str {
        ",fallback=af_packet"
    }
}

/// The build folder, as it is called off stage.
pub fn build() -> String {
    std::env::var("VDEV_NETVSC_BUILD").unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/build").into())
}

/// Shows a netdevice in sysfs.
fn show(name: &str, index: u32, device: Option<&str>) {
    if device.is_none() {
        fs::create_dir(format!("{VIRTUAL}/{index}")).unwrap();
        link(&format!("../../devices/virtual/net/{index}"), &format!("{NET}/{name}"));
    }
    write(&format!("{NET}/{name}/ifindex"), &format!("{index}\n"));
    if let Some(device) = device {
        link(device, &format!("{NET}/{name}/device"));
    }
}

/// Makes a netdevice and its wire in one go, as nobody waits for the other end of a wire to be plugged in.
fn veth(name: &str, index: u32, mac: &str) {
    let peer = format!("{}p", &name[..name.len().min(14)]);
    ip_batch(&format!(
        "link add {name} index {index} address {mac} type veth peer name {peer}\n\
         link set {peer} up\n\
         link set {name} up\n"
    ));
    show_address(name, mac);
}

/// Shows the address of a netdevice in sysfs.
fn show_address(name: &str, mac: &str) {
    fs::write(format!("{NET}/{name}/address"), format!("{mac}\n")).unwrap();
}

/// Runs many commands of `ip` on the stage, one a line.
pub fn ip_batch(commands: &str) {
    let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("ip");
    child.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "ip -batch: {commands}");
}

fn write(path: &str, text: &str) {
    fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
    fs::write(path, text).expect(path);
}

fn link(target: &str, path: &str) {
    if fs::symlink_metadata(path).is_err() {
        symlink(target, path).expect(path);
    }
}

/// Compiles a C source of this project, to a shared library or to a program, and returns where that is on the stage.
pub fn compile(source: &str, options: &[&str]) -> String {
    let stem = Path::new(source).file_stem().unwrap().to_string_lossy();
    let suffix = if options.contains(&"-shared") { ".so" } else { "" };
    let root = env!("CARGO_MANIFEST_DIR");
    let (source, output) = (format!("{root}/{source}"), format!("/run/{stem}{suffix}"));
    let (headers, cflags) = (format!("-I{root}/include"), run("pkg-config", &["--cflags", "libdpdk"]));
    let mut arguments = vec!["-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", headers.as_str()];
    arguments.extend(cflags.split_whitespace());
    arguments.extend(["-o", &output, &source]);
    arguments.extend(options);
    run("cc", &arguments);
    output
}

/// Runs `ip` with these arguments on the stage.
pub fn ip(arguments: &str) -> String {
    run("ip", &arguments.split_whitespace().collect::<Vec<_>>())
}

/// Runs a command on the stage and returns what it prints; a failure fails the test.
pub fn run(program: &str, arguments: &[&str]) -> String {
    if let Some(machine) = guest::here() {
        return machine.run(program, arguments);
    }
    let output = Command::new(program).args(arguments).output().expect(program);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Waits until `condition` gives something, and fails the test when it does not in time.
pub fn wait_for<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    wait_until(condition).unwrap_or_else(|| panic!("waited {PATIENCE:?} in vain: {what}"))
}

/// Waits until `condition` gives something, `None` when it does not in time.
pub fn wait_until<T>(condition: impl FnMut() -> Option<T>) -> Option<T> {
    wait_within(PATIENCE, condition)
}

/// As [`wait_until`], for so long.
pub fn wait_within<T>(patience: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        let found = condition();
        if found.is_some() || Instant::now() >= deadline {
            return found;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The text of a panic.
pub fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a text")
}

/// Numbers that look random (Marsaglia's xorshift64). The seed is not zero.
pub struct Random(pub u64);

impl Random {
    /// Returns the next.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
