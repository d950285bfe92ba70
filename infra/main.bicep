// Everything that the app needs in Azure, in a resource group of its own. The app reaches all of it with one managed identity;
// there is no connection string where Azure does without.
targetScope = 'subscription'

@description('Name of the environment. All other names are made of it.')
@minLength(1)
@maxLength(20)
param environmentName string

@description('Azure region.')
param location string

@description('The plan. Consumption is Windows: the Linux one ends on 2028-09-30.')
@allowed([
  'FlexConsumption'
  'ElasticPremium'
  'Dedicated'
  'Consumption'
])
param plan string = 'FlexConsumption'

@description('Where orchestrations are kept: Azure Storage, the Durable Task Scheduler, or a SQL database that is there already, which needs ElasticPremium or Dedicated.')
@allowed([
  'storage'
  'dts'
  'mssql'
])
param durableBackend string = 'storage'

@description('Memory of an instance in MB. Flex Consumption only.')
@allowed([
  512
  2048
  4096
])
param instanceMemoryMB int = 2048

@description('The most instances that there may be. Flex Consumption: 40 to 1000; Elastic Premium: the most workers.')
@minValue(1)
@maxValue(1000)
param maximumInstanceCount int = 40

@description('Instances for orchestrations, activities and entities that are always there: no cold start, and a price for each hour. Flex Consumption only.')
@minValue(0)
param alwaysReadyDurable int = 0

@description('Who gets the mail about failed records; empty: nobody.')
param alertEmailTo string = ''

@description('The sender of the mail.')
param alertEmailFrom string = ''

@description('Base address of the REST record store.')
param crmBaseUrl string = ''

@description('SendGrid API key; goes to the key vault.')
@secure()
param sendGridKey string = ''

@description('Bearer token of the REST record store; goes to the key vault.')
@secure()
param crmToken string = ''

@description('Connection string of the SQL backend; goes to the key vault. For durableBackend mssql.')
@secure()
param sqlConnectionString string = ''

var tags = {
  'azd-env-name': environmentName
}
var suffix = uniqueString(subscription().id, environmentName, location)
var queueName = 'myqueue'
var taskHubName = 'MyTaskHub'
var deploymentContainerName = 'deployments'
// Azure Files, on which these two plans keep the app's files, knows no managed identities.
var needsFileShare = plan == 'ElasticPremium' || plan == 'Consumption'
var hosts = {
  storage: 'host.json'
  dts: 'infra/hosts/dts.json'
  mssql: 'infra/hosts/mssql.json'
}

resource resourceGroup 'Microsoft.Resources/resourceGroups@2024-03-01' = {
  name: 'rg-${environmentName}'
  location: location
  tags: tags
}

module identity 'modules/identity.bicep' = {
  name: 'identity'
  scope: resourceGroup
  params: {
    name: 'id-${suffix}'
    location: location
    tags: tags
  }
}

module monitoring 'modules/monitoring.bicep' = {
  name: 'monitoring'
  scope: resourceGroup
  params: {
    workspaceName: 'log-${suffix}'
    applicationInsightsName: 'appi-${suffix}'
    location: location
    tags: tags
    principalId: identity.outputs.principalId
  }
}

module storage 'modules/storage.bicep' = {
  name: 'storage'
  scope: resourceGroup
  params: {
    name: 'st${suffix}'
    location: location
    tags: tags
    containerName: deploymentContainerName
    allowSharedKeyAccess: needsFileShare
    principalId: identity.outputs.principalId
  }
}

module serviceBus 'modules/servicebus.bicep' = {
  name: 'servicebus'
  scope: resourceGroup
  params: {
    name: 'sb-${suffix}'
    location: location
    tags: tags
    queueName: queueName
    principalId: identity.outputs.principalId
  }
}

module keyVault 'modules/keyvault.bicep' = {
  name: 'keyvault'
  scope: resourceGroup
  params: {
    name: 'kv-${suffix}'
    location: location
    tags: tags
    sendGridKey: sendGridKey
    crmToken: crmToken
    sqlConnectionString: sqlConnectionString
    principalId: identity.outputs.principalId
  }
}

module scheduler 'modules/scheduler.bicep' = if (durableBackend == 'dts') {
  name: 'scheduler'
  scope: resourceGroup
  params: {
    name: 'dts-${suffix}'
    location: location
    tags: tags
    taskHubName: taskHubName
    principalId: identity.outputs.principalId
  }
}

var backendSettings = durableBackend == 'dts' ? {
  DURABLE_TASK_SCHEDULER_CONNECTION_STRING: 'Endpoint=${scheduler!.outputs.endpoint};Authentication=ManagedIdentity;ClientID=${identity.outputs.clientId}'
  TASKHUB_NAME: taskHubName
} : durableBackend == 'mssql' ? {
  SQLDB_Connection: keyVault.outputs.sqlConnectionReference
} : {}

module app 'modules/app.bicep' = {
  name: 'app'
  scope: resourceGroup
  params: {
    name: 'func-${suffix}'
    planName: 'plan-${suffix}'
    location: location
    tags: tags
    plan: plan
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    alwaysReadyDurable: alwaysReadyDurable
    identityId: identity.outputs.id
    storageAccountName: storage.outputs.name
    deploymentContainerUrl: storage.outputs.containerUrl
    needsFileShare: needsFileShare
    runtimeScaling: durableBackend != 'storage'
    settings: union({
      AzureWebJobsStorage__accountName: storage.outputs.name
      AzureWebJobsStorage__credential: 'managedidentity'
      AzureWebJobsStorage__clientId: identity.outputs.clientId
      MyServiceBusConnection__fullyQualifiedNamespace: serviceBus.outputs.fullyQualifiedNamespace
      MyServiceBusConnection__credential: 'managedidentity'
      MyServiceBusConnection__clientId: identity.outputs.clientId
      APPLICATIONINSIGHTS_CONNECTION_STRING: monitoring.outputs.connectionString
      APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identity.outputs.clientId};Authorization=AAD'
      SendGridKey: keyVault.outputs.sendGridKeyReference
      CRM_TOKEN: keyVault.outputs.crmTokenReference
      CRM_BASE_URL: crmBaseUrl
      AlertEmailTo: alertEmailTo
      AlertEmailFrom: alertEmailFrom
    }, backendSettings)
  }
}

output AZURE_RESOURCE_GROUP string = resourceGroup.name
output FUNCTION_APP_NAME string = app.outputs.name
output FUNCTION_APP_URL string = app.outputs.url
output PUBLISH_PLATFORM string = plan == 'Consumption' ? 'windows/amd64' : 'linux/amd64'
output PUBLISH_HOST string = hosts[durableBackend]
output WATCH_COMMAND string = 'go run . instances list --app ${app.outputs.name} --resource-group ${resourceGroup.name} --watch'
