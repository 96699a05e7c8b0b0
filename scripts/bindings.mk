# SPDX-License-Identifier: GPL-2.0
#
# The bindings that `kernel::bindings` lacks.  Types that it has are blocked by name
# (bindings.py lists them), so that there is one `struct device` and not two.

kernel-bindings := $(objtree)/rust/bindings/bindings_generated.rs
bindgen-params = $(shell grep -Ev '^\#|^$$' $(srctree)/rust/bindgen_parameters \
	$(src)/rust/bindgen_parameters -h)
bindgen-cflags = $(filter-out $(CC_FLAGS_LTO),$(c_flags)) -fno-builtin -D__BINDGEN__ -DMODULE

quiet_cmd_names = NAMES   $@
      cmd_names = python3 $(src)/scripts/bindings.py names $< | LC_ALL=C sort > $@

$(obj)/rust/bindings/kernel_names.txt: $(kernel-bindings) $(src)/scripts/bindings.py FORCE
	$(call if_changed,names)

# One argument may have 128 KiB: the list is split at 100,000 bytes.  With layout tests,
# unlike the kernel: they are compile-time checks and found two wrong types.
quiet_cmd_bindgen = BINDGEN $@
      cmd_bindgen = \
	$(BINDGEN) $< $(bindgen-params) --rust-target 1.85 \
		$$(awk '$$1 == "complete" { b = b "|" $$2; \
				if (length(b) > 100000) { print "--blocklist-type " substr(b, 2); b = "" } } \
			END { if (b != "") print "--blocklist-type " substr(b, 2) }' \
			$(obj)/rust/bindings/kernel_names.txt) \
		--use-core --with-derive-default --ctypes-prefix ffi \
		--no-debug '.*' --enable-function-attribute-detection \
		-o $(tmp-target) -- $(bindgen-cflags) && \
	python3 $(src)/scripts/bindings.py drop $(obj)/rust/bindings/kernel_names.txt $(tmp-target) | \
		sed -E 's/pub const RUST_CONST_HELPER_([a-zA-Z0-9_]*)/pub const \1/' > $@ && \
	rm -f $(tmp-target)

$(obj)/rust/bindings/bindings_generated.rs: $(src)/rust/bindings/bindings_helper.h \
    $(obj)/rust/bindings/kernel_names.txt $(src)/rust/bindgen_parameters \
    $(src)/scripts/bindings.py FORCE
	$(call if_changed_dep,bindgen)

quiet_cmd_bindgen_helpers = BINDGEN $@
      cmd_bindgen_helpers = \
	$(BINDGEN) $< --blocklist-type '.*' --allowlist-var '' \
		--allowlist-function 'rust_helper_.*' \
		--rust-target 1.85 --use-core --with-derive-default --ctypes-prefix ffi \
		--no-layout-tests --no-debug '.*' --enable-function-attribute-detection \
		-o $@ -- $(bindgen-cflags) -Wno-missing-prototypes -Wno-missing-declarations && \
	sed -Ei 's/pub fn rust_helper_([a-zA-Z0-9_]*)/\#[link_name="rust_helper_\1"]\n    pub fn \1/g' $@

$(obj)/rust/bindings/bindings_helpers_generated.rs: $(src)/rust/helpers/helpers.c FORCE
	$(call if_changed_dep,bindgen_helpers)

targets += $(addprefix rust/bindings/,kernel_names.txt bindings_generated.rs \
	bindings_helpers_generated.rs)

$(obj)/rust/virtio_bindings.o: $(obj)/rust/bindings/bindings_generated.rs \
	$(obj)/rust/bindings/bindings_helpers_generated.rs

clean-files += rust/bindings/*_generated.rs rust/bindings/kernel_names.txt
