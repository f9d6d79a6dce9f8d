package fakekinesis

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"time"
)

// RoleRequest is a request to STS.
type RoleRequest struct {
	// Action is AssumeRole or AssumeRoleWithWebIdentity.
	Action, RoleARN, ExternalID, SessionName string
	// DurationSeconds is as in the request, empty if it had none.
	DurationSeconds  string
	WebIdentityToken string
	Request          Request
}

// RoleResponse is the response to one RoleRequest.
type RoleResponse struct {
	// Expires is when the credentials expire; zero means in an hour.
	Expires time.Time
	Fault   Fault
}

// The credentials in the response to request n.
func RoleKeyID(n int) string        { return fmt.Sprintf("ASIAROLE%08d", n) }
func RoleSecretKey(n int) string    { return fmt.Sprintf("role-secret-key-%d", n) }
func RoleSessionToken(n int) string { return fmt.Sprintf("role-session-token-%d", n) }

func (s *Server) assumeRole(w http.ResponseWriter, r *http.Request) {
	request := RoleRequest{
		Action:           r.FormValue("Action"),
		RoleARN:          r.FormValue("RoleArn"),
		ExternalID:       r.FormValue("ExternalId"),
		SessionName:      r.FormValue("RoleSessionName"),
		DurationSeconds:  r.FormValue("DurationSeconds"),
		WebIdentityToken: r.FormValue("WebIdentityToken"),
		Request:          Request{Proto: r.Proto, Host: r.Host, Header: r.Header.Clone(), ContentLength: r.ContentLength},
	}
	s.mu.Lock()
	s.roles = append(s.roles, request)
	n := len(s.roles)
	s.mu.Unlock()

	var response RoleResponse
	if s.options.Role != nil {
		response = s.options.Role(n, request)
	}
	if response.Expires.IsZero() {
		response.Expires = time.Now().Add(time.Hour)
	}
	switch response.Fault.kind {
	case kindOK:
	case kindError:
		writeXML(w, response.Fault.status, xmlError{Code: response.Fault.code, Message: response.Fault.message})
		return
	case kindStatus:
		refuse(w, r, response.Fault)
		return
	case kindBody:
		writeBody(w, response.Fault)
		return
	case kindHold:
		if !s.hold(r, response.Fault.until) {
			panic(http.ErrAbortHandler)
		}
	default:
		reset(w)
		return
	}

	granted := xmlCredentials{
		AccessKeyID:     RoleKeyID(n),
		SecretAccessKey: RoleSecretKey(n),
		SessionToken:    RoleSessionToken(n),
		Expiration:      response.Expires.UTC().Format(time.RFC3339),
	}
	user := request.RoleARN + "/" + request.SessionName
	switch request.Action {
	case "AssumeRole":
		writeXML(w, http.StatusOK, struct {
			XMLName     xml.Name       `xml:"AssumeRoleResponse"`
			Credentials xmlCredentials `xml:"AssumeRoleResult>Credentials"`
			User        string         `xml:"AssumeRoleResult>AssumedRoleUser>Arn"`
		}{Credentials: granted, User: user})
	case "AssumeRoleWithWebIdentity":
		writeXML(w, http.StatusOK, struct {
			XMLName     xml.Name       `xml:"AssumeRoleWithWebIdentityResponse"`
			Credentials xmlCredentials `xml:"AssumeRoleWithWebIdentityResult>Credentials"`
			User        string         `xml:"AssumeRoleWithWebIdentityResult>AssumedRoleUser>Arn"`
		}{Credentials: granted, User: user})
	default:
		writeXML(w, http.StatusBadRequest, xmlError{Code: "InvalidAction", Message: "no such action: " + request.Action})
	}
}

type xmlCredentials struct {
	AccessKeyID     string `xml:"AccessKeyId"`
	SecretAccessKey string
	SessionToken    string
	Expiration      string
}

type xmlError struct {
	XMLName xml.Name `xml:"ErrorResponse"`
	Code    string   `xml:"Error>Code"`
	Message string   `xml:"Error>Message"`
}

func writeXML(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_ = xml.NewEncoder(w).Encode(body)
}
