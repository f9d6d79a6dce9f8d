package plugin

import "sync"

// Registry holds the instances that live, by handles that the engine can keep
// for us. It is safe for concurrent use; the zero value is empty.
type Registry struct {
	mu   sync.Mutex
	last uintptr
	live map[uintptr]*Instance
}

// Add enters an instance and returns its handle, which is not 0 and is never
// given to another.
func (r *Registry) Add(in *Instance) uintptr {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.live == nil {
		r.live = map[uintptr]*Instance{}
	}
	r.last++
	r.live[r.last] = in
	return r.last
}

// Find returns the instance of a handle, or nil.
func (r *Registry) Find(handle uintptr) *Instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.live[handle]
}

// Only returns the one instance there is, or nil if there are none or several.
func (r *Registry) Only() *Instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.live) == 1 {
		for _, in := range r.live {
			return in
		}
	}
	return nil
}

// Remove takes an instance out and returns it, or nil.
func (r *Registry) Remove(handle uintptr) *Instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	in := r.live[handle]
	delete(r.live, handle)
	return in
}

// RemoveAll takes all instances out and returns them.
func (r *Registry) RemoveAll() []*Instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*Instance
	for handle, in := range r.live {
		all = append(all, in)
		delete(r.live, handle)
	}
	return all
}
