package admin

import (
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

func (h *Handler) listProfiles(c *call) (reply, error) {
	list, err := h.o.Profiles.Profiles(c.r.Context())
	if err != nil {
		return reply{}, err
	}
	if list == nil {
		list = []conf.Profile{}
	}
	return ok(profilesResponse{Profiles: list})
}

func (h *Handler) getProfile(c *call) (reply, error) {
	p, err := h.o.Profiles.Profile(c.r.Context(), c.params.ByName("name"))
	if err != nil {
		return reply{}, err
	}
	return ok(p)
}

func (h *Handler) putProfile(c *call) (reply, error) {
	var req profileRequest
	if len(c.body) > 0 {
		if err := conf.DecodeStrict(c.body, len(c.body), &req); err != nil {
			return reply{}, err
		}
	}
	if len(req.Description) > conf.MaxReason {
		return reply{}, invalid("description", "has %d bytes, at most %d are allowed", len(req.Description), conf.MaxReason).WithHint("shorten it")
	}
	for _, name := range conf.SortedKeys(req.Services) {
		if err := conf.CheckService(name); err != nil {
			return reply{}, err
		}
		if err := object("services."+name, req.Services[name]); err != nil {
			return reply{}, err
		}
	}
	var of []string
	if c.query.Has("service") {
		if req.Services != nil {
			return reply{}, conf.Errorf(conf.CodeMalformed, "both ?service= and services in the body are given").
				WithHint("send the values, or name the services whose present values to save")
		}
		of = strings.Split(c.query.Get("service"), ",")
		for _, s := range of {
			if err := conf.CheckService(s); err != nil {
				return reply{}, err
			}
		}
	}
	reason, id, err := h.why(c, req.Reason)
	if err != nil {
		return reply{}, err
	}
	p, err := h.o.ProfileEditor.SaveProfile(c.r.Context(), c.who,
		conf.Profile{Name: c.params.ByName("name"), Description: req.Description, Services: req.Services}, of, reason, id)
	if err != nil {
		return reply{}, err
	}
	return ok(profileResponse{Success: true, Profile: p})
}

func (h *Handler) deleteProfile(c *call) (reply, error) {
	reason, id, err := h.why(c, "")
	if err != nil {
		return reply{}, err
	}
	if err := h.o.ProfileEditor.DeleteProfile(c.r.Context(), c.who, c.params.ByName("name"), reason, id); err != nil {
		return reply{}, err
	}
	return ok(doneResponse{Success: true})
}

func (h *Handler) activateProfile(c *call) (reply, error) {
	var req activateRequest
	if len(c.body) > 0 {
		if err := conf.DecodeStrict(c.body, len(c.body), &req); err != nil {
			return reply{}, err
		}
	}
	reason, id, err := h.why(c, req.Reason)
	if err != nil {
		return reply{}, err
	}
	list, err := h.o.ProfileEditor.ActivateProfile(c.r.Context(), c.who, c.params.ByName("name"), reason, id)
	if err != nil {
		return reply{}, err
	}
	out := activateResponse{Success: true, Services: make([]activateService, len(list))}
	for i, o := range list {
		out.Services[i] = activateService{Service: o.Service, NewVersion: o.Version, Changed: o.Changed}
	}
	return ok(out)
}

// why is the reason and the request id of a change.
func (h *Handler) why(c *call, inBody string) (reason, id string, err error) {
	if reason, err = c.reason(inBody); err != nil {
		return "", "", err
	}
	id, _, err = h.requestID(c) // carried out twice, it gives the same
	return reason, id, err
}
