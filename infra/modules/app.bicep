// The plan and the function app, on any of the four plans.
param name string
param planName string
param location string
param tags object
param plan string
param instanceMemoryMB int
param maximumInstanceCount int
param alwaysReadyDurable int
param identityId string
param storageAccountName string
param deploymentContainerUrl string
param needsFileShare bool
param runtimeScaling bool
param settings object

var isFlex = plan == 'FlexConsumption'
var isWindows = plan == 'Consumption'
var skus = {
  FlexConsumption: {
    name: 'FC1'
    tier: 'FlexConsumption'
  }
  ElasticPremium: {
    name: 'EP1'
    tier: 'ElasticPremium'
  }
  Dedicated: {
    name: 'B1'
    tier: 'Basic'
  }
  Consumption: {
    name: 'Y1'
    tier: 'Dynamic'
  }
}

// Flex Consumption has these in functionAppConfig, or always, and refuses them as settings.
var planSettings = isFlex ? {} : {
  FUNCTIONS_EXTENSION_VERSION: '~4'
  FUNCTIONS_WORKER_RUNTIME: 'custom'
  WEBSITE_RUN_FROM_PACKAGE: '1'
}
// On Windows the host does not add .exe to the binary's name.
var windowsSettings = isWindows ? {
  AzureFunctionsJobHost__customHandler__description__defaultExecutablePath: 'app.exe'
} : {}
var fileShareSettings = needsFileShare ? {
  WEBSITE_CONTENTAZUREFILECONNECTIONSTRING: 'DefaultEndpointsProtocol=https;AccountName=${storageAccountName};AccountKey=${account.listKeys().keys[0].value};EndpointSuffix=${environment().suffixes.storage}'
  WEBSITE_CONTENTSHARE: toLower(name)
} : {}

resource account 'Microsoft.Storage/storageAccounts@2023-05-01' existing = {
  name: storageAccountName
}

resource serverFarm 'Microsoft.Web/serverfarms@2024-04-01' = {
  name: planName
  location: location
  tags: tags
  kind: plan == 'ElasticPremium' ? 'elastic' : (plan == 'Dedicated' ? 'linux' : 'functionapp')
  sku: skus[plan]
  properties: {
    reserved: !isWindows
    maximumElasticWorkerCount: plan == 'ElasticPremium' ? min(maximumInstanceCount, 20) : null
  }
}

resource site 'Microsoft.Web/sites@2024-04-01' = {
  name: name
  location: location
  tags: tags
  kind: isWindows ? 'functionapp' : 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identityId}': {}
    }
  }
  properties: {
    serverFarmId: serverFarm.id
    httpsOnly: true
    clientAffinityEnabled: false
    keyVaultReferenceIdentity: identityId
    functionAppConfig: isFlex ? {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: deploymentContainerUrl
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identityId
          }
        }
      }
      scaleAndConcurrency: {
        maximumInstanceCount: max(maximumInstanceCount, 40)
        instanceMemoryMB: instanceMemoryMB
        alwaysReady: alwaysReadyDurable == 0 ? [] : [
          {
            name: 'durable'
            instanceCount: alwaysReadyDurable
          }
        ]
      }
      runtime: {
        name: 'custom'
        version: '1.0'
      }
    } : null
    siteConfig: isFlex ? {
      minTlsVersion: '1.2'
      http20Enabled: true
    } : {
      minTlsVersion: '1.2'
      http20Enabled: true
      ftpsState: 'Disabled'
      use32BitWorkerProcess: false
      alwaysOn: plan == 'Dedicated'
      // The platform's own scaling sees the work of Azure Storage only.
      functionsRuntimeScaleMonitoringEnabled: plan == 'ElasticPremium' && runtimeScaling
    }
  }

  resource appSettings 'config' = {
    name: 'appsettings'
    properties: union(settings, planSettings, windowsSettings, fileShareSettings)
  }

  // Publishing needs a token of Entra ID, never a password.
  resource scmPassword 'basicPublishingCredentialsPolicies' = {
    name: 'scm'
    properties: {
      allow: false
    }
  }

  resource ftpPassword 'basicPublishingCredentialsPolicies' = {
    name: 'ftp'
    properties: {
      allow: false
    }
  }
}

output name string = site.name
output url string = 'https://${site.properties.defaultHostName}'
